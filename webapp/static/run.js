// The running job's progress, asked for once a second; when it ends, the page as the server makes it.
"use strict";
const job = document.getElementById("job");
async function ask() {
  let now;
  try {
    now = await (await fetch(job.dataset.status)).json();
  } catch {
    document.getElementById("job-line").textContent = "The server does not answer; trying again.";
    setTimeout(ask, 2000);
    return;
  }
  if (!["running", "stopping"].includes(now.state)) {
    location.reload();
    return;
  }
  document.getElementById("job-state").textContent = `${now.state}, ${now.seconds} s`;
  document.getElementById("job-line").textContent = now.line;
  const bar = document.getElementById("job-progress");
  if (bar && now.total) {
    bar.max = now.total;
    bar.value = now.done;
  }
  setTimeout(ask, 700);
}
if (job && job.dataset.busy === "yes") setTimeout(ask, 300);
