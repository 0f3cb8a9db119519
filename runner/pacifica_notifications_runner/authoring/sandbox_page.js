// Sends the chosen files one after the other, and then has a transaction made of them.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const said = document.getElementById("said");
  const headers = { "Sandbox-Page": "yes" };

  async function ask(method, path, body) {
    const answer = await fetch(path, { method, headers, body });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    return answer.status === 204 ? null : answer.json();
  }

  function pairs(text) {
    const found = {};
    for (const pair of text.split(",").map((each) => each.trim()).filter(Boolean)) {
      const [key, ...value] = pair.split("=");
      found[key.trim()] = value.join("=").trim();
    }
    return found;
  }

  async function upload() {
    const files = [...document.getElementById("files").files, ...document.getElementById("folder").files];
    if (!files.length) throw new Error("choose some files");
    const { upload: name } = await ask("POST", "/uploads");
    for (const [number, file] of files.entries()) {
      said.textContent = `${number + 1} of ${files.length}: ${file.name}`;
      const path = (file.webkitRelativePath || file.name).split("/").map(encodeURIComponent).join("/");
      await ask("PUT", `/uploads/${name}/${path}`, file);
    }
    const facts = Object.fromEntries(["submitter", "project", "instrument"].map((each) => [each, form.elements[each].value]));
    facts.key_values = pairs(form.elements.key_values.value);
    const made = await ask("POST", `/uploads/${name}`, JSON.stringify(facts));
    said.textContent = `Announced as ${made.event}.`;
  }

  async function refresh() {
    const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    for (const id of ["transactions", "subscriptions"]) {
      const part = document.getElementById(id);
      const other = fresh.getElementById(id);
      if (!part.contains(document.activeElement) && part.innerHTML !== other.innerHTML) part.innerHTML = other.innerHTML;
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await upload();
      await refresh();
    } catch (error) {
      said.textContent = `Not uploaded: ${error.message}`;
    }
  });
  setInterval(() => { if (!document.hidden) refresh().catch(() => {}); }, 2000);
})();
