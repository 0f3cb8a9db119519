// Keeps the parts of a page up to date whose ids begin with "live-", and appends the output of a running job.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  const pause = document.getElementById("pause");
  const log = document.getElementById("log");
  let paused = false;
  let position = null;

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Resume updates" : "Pause updates";
  });

  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    // The session has ended: what is shown would stay as it is for ever, so the form for the token replaces it.
    if (answer.status === 401) location.reload();
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of main.querySelectorAll("section[id^=live-]")) {
      const other = fresh.getElementById(part.id);
      // A part with the keyboard's focus or with selected text stays as it is.
      const used = part.contains(document.activeElement) ||
        (getSelection().toString() !== "" && part.contains(getSelection().anchorNode));
      if (other && !used && other.innerHTML !== part.innerHTML) part.innerHTML = other.innerHTML;
    }
  }

  async function follow() {
    if (!log || !log.dataset.log) return;
    const from = position === null ? -65536 : position;
    const answer = await fetch(`/api/jobs/${log.dataset.log}/log?offset=${from}`);
    if (!answer.ok) return;
    const text = await answer.text();
    const start = Number(answer.headers.get("Log-Offset"));
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    // A long log is cut when its job ends, and is then shorter than before.
    if (position === null || start !== position) log.textContent = text;
    else if (text) log.append(text);
    position = Number(answer.headers.get("Log-End"));
    if (atEnd) log.scrollTop = log.scrollHeight;
    if (["succeeded", "dead", "cancelled"].includes(answer.headers.get("Job-State"))) delete log.dataset.log;
  }

  async function turn() {
    try {
      if (!paused && !document.hidden) await Promise.all([refresh(), follow()]);
      document.body.classList.remove("offline");
    } catch {
      // The consumer is stopped or starting: the next turn tries again.
      document.body.classList.add("offline");
    }
    setTimeout(turn, 2000);
  }
  turn();
})();
