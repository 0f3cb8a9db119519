"""Jobs: their states, directories and limits, and which notification gets one."""
