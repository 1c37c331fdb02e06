// The running job's progress, asked for once a second; when it ends, the page as the server makes it.
"use strict";
const job = document.getElementById("job");
const PATIENCE = 10000;  // milliseconds that an answer, or the next page, is waited for
async function follow() {
  let now;
  try {
    now = await ask(job.dataset.status, { signal: AbortSignal.timeout(PATIENCE) });
  } catch (error) {
    document.getElementById("job-line").textContent = `${error.message} Trying again.`;
    setTimeout(follow, 2000);
    return;
  }
  if (!["running", "stopping"].includes(now.state)) {
    location.replace(job.dataset.ended);
    setTimeout(follow, PATIENCE);
    return;
  }
  document.getElementById("job-state").textContent = `${now.state}, ${now.seconds} s`;
  document.getElementById("job-line").textContent = now.line;
  const bar = document.getElementById("job-progress");
  if (bar && now.total) {
    bar.max = now.total;
    bar.value = now.done;
  }
  setTimeout(follow, 700);
}
if (job && job.dataset.busy === "yes") setTimeout(follow, 300);
