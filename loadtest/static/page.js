// Asks for what is new every two seconds, and draws it; all charts share one time axis, that of Locust's charts too.
"use strict";

const EVERY = 2000, LEAST_SPAN = 60, RATE_SECONDS = 10;
const PATTERNS = ["problematic", "improved", "hook", "worker", "inherited", "other"];
const WORKER_HUES = ["open", "idle", "opened", "worker", "problematic"];

const panels = document.getElementById("panels");
const span = document.getElementById("span");
const state = { samples: [], runs: [], since: 0 };

const charts = {
  open: new Chart(panels, { title: "Open connections", unit: "",
    about: "Bolt connections that Neo4j has open: idle ones do nothing and take memory, the others are in a transaction." }),
  rate: new Chart(panels, { title: "Connections opened per second", unit: "/s",
    about: "Each new one costs the database a handshake and a login; a shared driver opens none. Mean of 10 s." }),
  flight: new Chart(panels, { title: "DAG runs", unit: "",
    about: "Started and not ended. If these pile up, Airflow does not keep up with the rate." }),
  times: new Chart(panels, { title: "How long DAG runs take", unit: " s",
    about: "From the moment each was due, to its first task at work (queued) and to its end (run); a dot for each run." }),
  pattern: new Chart(panels, { title: "Open connections by pattern", unit: "",
    about: "Who opened them, as each connection says itself: the code pattern, or a shared driver." }),
  workers: new Chart(panels, { title: "Drivers of the Celery workers", unit: "",
    about: "From Flower: connections that each worker's shared drivers hold for its tasks, and how many are in use." }),
};
for (const chart of Object.values(charts)) {
  chart.onPoint = (t) => Object.values(charts).forEach((other) => other.point(t));
}

function mode() {
  const dark = localStorage.theme ? localStorage.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.classList.toggle("dark", dark);
}

function shownSpan(samples) {
  const last = samples.at(-1)?.t ?? Date.now() / 1000;
  let first = samples[0]?.t ?? last;
  if (span.value === "test") {
    const start = samples.findLastIndex((sample, n) => n > 0 && sample.elapsed > 0 && samples[n - 1].elapsed <= 0);
    if (start >= 0) first = samples[Math.max(0, start - 5)].t;
    else first = Math.max(first, last - 600);
  } else if (span.value !== "all") {
    first = Math.max(first, last - Number(span.value));
  }
  return [first, Math.max(last, first + LEAST_SPAN)];
}

function openedPerSecond(samples) {
  let first = 0;
  return samples.map((sample, number) => {
    while (sample.t - samples[first].t > RATE_SECONDS) first++;
    const opened = sample.opened - samples[first].opened;
    const counted = number > first && sample.opened !== null && samples[first].opened !== null && opened >= 0;
    return [sample.t, counted ? opened / (sample.t - samples[first].t) : null];
  });
}

function drawAll() {
  const range = shownSpan(state.samples);
  const samples = state.samples.filter((sample) => sample.t >= range[0]);
  const runs = state.runs.filter((run) => run[0] >= range[0]);
  const of = (name) => samples.map((sample) => [sample.t, sample[name]]);
  const patterns = PATTERNS.filter((name) => samples.some((sample) => sample.patterns[name]));
  const workers = [...new Set(samples.flatMap((sample) => Object.keys(sample.workers ?? {})))].sort();
  const ofWorker = (name, column) => samples.map((sample) => [sample.t, sample.workers?.[name]?.[column] ?? null]);
  charts.open.draw([{ name: "open", hue: "open", points: of("open") }, { name: "idle", hue: "idle", points: of("idle") },
    { name: "in a transaction", hue: "running", points: of("running") }], range);
  charts.rate.draw([{ name: "opened", hue: "opened", points: openedPerSecond(samples) }], range);
  charts.flight.draw([{ name: "in flight", hue: "flight", points: of("in_flight") },
    { name: "queued in Airflow", hue: "queued", points: of("runs_queued") }], range);
  charts.times.draw([{ name: "queued", hue: "queued", dots: true, points: runs.map((run) => [run[0], run[2] ?? 0]) },
    { name: "run", hue: "flight", dots: true, points: runs.map((run) => [run[0], run[1]]) }], range);
  charts.pattern.draw(patterns.map((name) => ({ name, hue: name,
    points: samples.map((sample) => [sample.t, sample.patterns[name]?.[0] ?? 0]) })), range);
  charts.workers.draw(workers.flatMap((name, number) => [
    { name: `${name} open`, hue: WORKER_HUES[2 * number % WORKER_HUES.length], points: ofWorker(name, 1) },
    { name: `${name} in use`, hue: WORKER_HUES[(2 * number + 1) % WORKER_HUES.length], points: ofWorker(name, 2) },
  ]), range);
}

function fillTable(rows) {
  document.getElementById("table").replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const key of ["what", "now", "most", "meaning"]) {
      const value = row[key];
      line.insertCell().textContent = typeof value === "number" ? shown(value) : value ?? "";
    }
    return line;
  }));
}

function say({ load, share, polls, summary, deployment }, last) {
  const words = [deployment];
  if (load) {
    const rate = load.users === null ? `${last.rate} DAG runs per second` : `${load.users} users`;
    words.push(`${load.pattern}, ${rate}, ${load.tasks} tasks each`, `${Math.max(0, Math.round(last.elapsed))} s`);
    words.push(`Locust and the probe: ${(100 * share).toFixed(1)} % of the machine`);
    if (polls !== null) words.push(`${polls.toFixed(1)} polls per DAG run`);
  } else {
    words.push("no test is running");
  }
  document.getElementById("state").textContent = words.filter(Boolean).join(" · ");
  const trouble = document.getElementById("trouble");
  trouble.hidden = !last?.trouble;
  trouble.textContent = last?.trouble ?? "";
  const verdict = document.getElementById("verdict");
  verdict.hidden = !summary;
  if (summary) verdict.textContent = result(summary);
  verdict.classList.toggle("bad", Boolean(summary?.broken.length));
}

function result({ outcome, broken, knee, run }) {
  const tail = outcome.latencies.run.p95;      // null of too few runs for one
  const least = outcome.connections_lower_bound ? "≥ " : "";
  const parts = [`Last test: ${outcome.succeeded} of ${outcome.arrivals} DAG runs succeeded`,
    tail === null ? `longest run ${shown(outcome.latencies.run.highest)} s` : `run p95 ${shown(tail)} s`,
    `${least}${shown(outcome.connections_opened)} connections opened`,
    `${least}${shown(outcome.connections_opened_per_run)} per DAG run`,
    `${shown(outcome.connections_left)} left 5 s after the last one`];
  if (knee) parts.push(`last rate that held: ${shown(knee.last_rate_that_held)} per second`);
  return `${parts.join(", ")}. ${broken.join("; ")} Folder: ${run}`;
}

async function ask() {
  try {
    const answer = await fetch(`./neo4j/data?since=${state.since}`);
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const found = await answer.json();
    state.samples.push(...found.samples);
    state.since = state.samples.at(-1)?.t ?? 0;
    state.runs = found.runs.length || !state.runs.length ? merged(found.runs) : state.runs;
    drawAll();
    fillTable(found.table);
    say(found, state.samples.at(-1));
  } catch (error) {
    const trouble = document.getElementById("trouble");
    trouble.hidden = false;
    trouble.textContent = `Locust does not answer (${error.message}): is it still running?`;
  }
  setTimeout(ask, EVERY);
}

// The server repeats the runs of the last seconds: one may become known later than it ended.
function merged(runs) {
  const known = new Set(state.runs.map((run) => `${run}`));
  return [...state.runs, ...runs.filter((run) => !known.has(`${run}`))].sort((a, b) => a[0] - b[0]);
}

document.body.classList.toggle("embedded", window.parent !== window);
mode();
addEventListener("storage", mode);
setInterval(mode, EVERY);
span.addEventListener("change", drawAll);
ask();
