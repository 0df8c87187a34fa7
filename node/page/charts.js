// The progress of a tier and the curve of one run, drawn by uPlot (MIT, uplot.LICENSE.txt).

const uPlot = window.uPlot;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Rows from which on dots are small.
const MANY = 1000;

let progress = null;
let shown = null;

function axis(label) {
  const colour = style("--quiet");
  return { label, stroke: colour, grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") } };
}

// Of a place in the order of arrival there are no parts.
const WHOLE = [1, 2, 5].flatMap((step) => [1, 10, 100, 1000, 10000].map((power) => step * power)).sort((a, b) => a - b);

// The legend below takes its own room.
const size = (place) => ({ width: Math.max(280, place.clientWidth), height: innerWidth < 640 ? 240 : 340 });

// Rows: all experiments of the tier in order of arrival; steps: the staircase. Each is (place, value).
function columns(rows, steps, places) {
  const xs = new Map();
  const at = (x) => {
    if (!xs.has(x)) xs.set(x, [null, null, null, null, null]);
    return xs.get(x);
  };
  for (const row of rows) if (row.metric !== null) at(row.place)[0] = row.metric;
  const last = rows.length ? rows[rows.length - 1].place : 0;
  const first = rows.length ? rows[0].place : 0;
  for (const step of steps) {
    const cells = at(places.get(step.id) ?? first);
    cells[1] = step.value;
    if (step.confirmed !== null) cells[2] = step.confirmed;
    if (step.holdout !== null) cells[3] = step.holdout;
  }
  if (steps.length) at(last)[1] ??= steps[steps.length - 1].value;
  const proven = steps.filter((step) => step.confirmed !== null);
  if (proven.length) at(last)[2] ??= proven[proven.length - 1].confirmed;
  const held = steps.filter((step) => step.holdout !== null);
  if (held.length) at(last)[3] ??= held[held.length - 1].holdout;
  const order = [...xs.keys()].sort((a, b) => a - b);
  return [order, ...[0, 1, 2, 3].map((index) => order.map((x) => xs.get(x)[index]))];
}

// The scale is that of the steps and of the better half of the runs, with room on the worse side; what is worse is
// left out, and counted by beyond().
function scale(steps, rows, maximize) {
  const runs = rows.map((row) => row.metric).filter((value) => value !== null).sort((a, b) => (maximize ? b - a : a - b));
  const stairs = steps.flatMap((step) => [step.value, step.confirmed, step.holdout]).filter((value) => value !== null);
  const values = [...stairs, ...runs.slice(0, Math.ceil(runs.length / 2))];
  if (!values.length) return [0, 1];
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const room = high - low || Math.abs(high) * 0.1 || 1;
  return maximize ? [low - 0.3 * room, high + 0.1 * room] : [low - 0.1 * room, high + 0.3 * room];
}

// How many runs are worse than the picture shows.
export function beyond(rows, steps, goal) {
  const [low, high] = scale(steps, rows, goal === "maximize");
  return rows.filter((row) => row.metric !== null && (goal === "maximize" ? row.metric < low : row.metric > high)).length;
}

export function drawProgress(place, rows, steps, places, names, onPick) {
  shown = { place, rows, steps, places, names, onPick };
  const data = columns(rows, steps, places);
  const range = scale(steps, rows, names.goal === "maximize");
  const key = JSON.stringify([names, range, rows.length > MANY, matchMedia("(prefers-color-scheme: dark)").matches]);
  if (progress && progress.key === key && progress.place === place) {
    progress.plot.setData(data);
    return;
  }
  progress?.plot.destroy();
  const stairs = uPlot.paths.stepped({ align: 1 });
  const cut = (u, value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(6)));
  const series = [
    { label: "experiment", value: (u, value) => (value === null || value === undefined ? "–" : value) },
    { label: "run", stroke: style("--dot"), paths: () => null, points: { show: true, size: rows.length > MANY ? 3 : 5, width: 0, fill: style("--dot") }, value: cut },
    { label: "accepted", stroke: style("--accent"), width: 2.5, paths: stairs, spanGaps: true, points: { show: false }, value: cut },
    { label: "proven", stroke: style("--proven"), width: 2.5, dash: [8, 5], paths: stairs, spanGaps: true, points: { show: false }, value: cut },
    { label: "hold-out", stroke: style("--link"), width: 1.5, dash: [3, 4], paths: stairs, spanGaps: true, points: { show: false }, value: cut },
  ];
  const plot = new uPlot({
    ...size(place), series, legend: { live: true }, axes: [{ ...axis("experiments, in order of arrival"), incrs: WHOLE }, axis(names.label)],
    scales: { x: { time: false }, y: { range: () => range } }, cursor: { drag: { x: true, y: false } },
    hooks: { ready: [(u) => u.over.addEventListener("dblclick", () => onPick(u.data[0][u.cursor.idx]))] },
  }, data, place);
  progress = { plot, key, place };
}

export function drawCurve(place, points) {
  const [xs, ys] = [points.map((point) => point[0] * 100), points.map((point) => point[1])];
  return new uPlot({
    ...size(place), axes: [axis("% of the budget"), axis("training loss")], scales: { x: { time: false } },
    series: [{ label: "%" }, { label: "loss", stroke: style("--accent"), width: 2, points: { show: false } }],
  }, [xs, ys], place);
}

function again() {
  if (!progress || !shown) return;
  progress.plot.destroy();
  progress = null;
  drawProgress(shown.place, shown.rows, shown.steps, shown.places, shown.names, shown.onPick);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
let waiting = 0;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => progress?.plot.setSize(size(progress.place)), 100);
});
