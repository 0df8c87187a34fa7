// One experiment: what it changed, how it went, what others found when they ran it.

import { $, ask, clean, count, el, error, fill, lines, metric, peerName, short, span, when } from "./dom.js";
import { drawCurve } from "./charts.js";

const fact = (name, ...values) => [el("dt", {}, name), el("dd", {}, ...values)];

function diff(text) {
  const kind = (line) =>
    /^(diff |--- |\+\+\+ )/.test(line) ? "kept quiet" : line.startsWith("@@") ? "hunk" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "kept";
  return el("pre", { tabindex: "0", "aria-label": "diff" },
    ...lines(text.replace(/\n$/, "")).map((line) => el("span", { class: kind(line) }, line || " ")));
}

function runs(found, me) {
  const rows = found.runs.map((run) => el("tr", {},
    el("td", {}, el("a", { href: `#/experiment/${run.id}` }, clean(run.origin))),
    el("td", { class: "number" }, metric(run.metric)), el("td", { class: "number" }, metric(run.holdout)),
    el("td", {}, clean(run.status)), el("td", { title: clean(run.peer) }, peerName(run.peer, me)),
    el("td", {}, clean(run.tier)), el("td", {}, when(run.created_ms))));
  const heads = ["Run", "Metric", "Hold-out", "Status", "By", "Tier", "When"];
  const numbers = ["Metric", "Hold-out"];
  const head = (name) => el("th", { scope: "col", class: numbers.includes(name) ? "number" : null }, name);
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "all runs of this candidate" }, el("table", {},
    el("thead", {}, el("tr", {}, ...heads.map(head))), el("tbody", {}, ...rows)));
}

function standing(found) {
  const has = found.standing;
  if (!has) return "none";
  const words = [has.vetoed ? "vetoed" : has.level || "none", `mean ${metric(has.value)} of ${count(has.runs, "run")} by ${count(has.authors, "author")}`];
  if (has.confirmations) words.push(`${count(has.confirmations, "confirmation")}, mean ${metric(has.confirmed)}`);
  return `${words.join("; ")}; noise σ ${error(has.sigma)}`;
}

function parent(found) {
  const name = el("code", {}, found.parent);
  return found.parent_id ? el("a", { href: `#/experiment/${found.parent_id}` }, name) : name;
}

function facts(found, status) {
  return el("dl", { class: "facts" },
    ...fact("Metric", `${status.metric.name} ${metric(found.metric)} ${clean(status.metric.unit)}`),
    ...fact("Hold-out", metric(found.holdout)),
    ...fact("Status", `${clean(found.status)}, ${clean(found.origin)}`),
    ...fact("Standing", standing(found)),
    ...fact("Commit", el("code", {}, found.commit)),
    ...fact("Made from", found.parent ? parent(found) : "nothing: it is genesis"),
    ...fact("Lineage", `${count(Math.max(0, found.lineage.length - 1), "step")} from genesis`),
    ...fact("By", el("code", {}, clean(found.peer)), found.peer === status.peer_id ? " (me)" : ""),
    ...fact("Hardware", `${clean(found.device)}, tier ${clean(found.tier)}, ${clean(found.software)}`),
    ...fact("Took", `${span(found.cpu_seconds)} of CPU, ${span(found.wall_seconds)} of wall clock, ` +
      `${Math.round(found.memory / 2 ** 20)} MiB`),
    ...fact("Told", when(found.created_ms)),
    ...fact("Hypothesis", clean(found.hypothesis) || "none"),
    ...fact("Tunables", Object.entries(found.tunables).map(([name, value]) => `${clean(name)} = ${clean(value)}`).join(", ") || "none"));
}

function judging(found, status, say) {
  if (!status.founder || status.founder !== status.peer_id || !found.parent) return [];
  const judge = (approve) => async () => {
    const word = approve ? "approve" : "veto";
    if (!confirm(`As the program's founder, ${word} ${short(found.commit)}${approve ? "" : " and all that is made from it"}?`)) return;
    try {
      await ask("/api/verdict", { commit: found.commit, approve });
      say("");
    } catch (error) {
      say(error.message);
    }
  };
  return [el("p", { class: "controls" }, el("button", { type: "button", onclick: judge(true) }, "Approve"),
    el("button", { type: "button", onclick: judge(false) }, "Veto"))];
}

export async function showExperiment(id, status, say) {
  const place = $("experiment");
  let found;
  try {
    found = await ask(`/api/experiment/${encodeURIComponent(id)}`);
  } catch (error) {
    fill(place, el("h2", {}, "No such experiment"), el("p", {}, clean(error.message)), back());
    return;
  }
  const curve = el("div", { id: "curve", role: "img", "aria-label": `training loss at ${found.curve.length} points of the budget` });
  const title = el("h2", { tabindex: "-1" }, clean(found.summary) || short(found.commit));
  fill(place, back(), title, ...judging(found, status, say), facts(found, status),
    el("h2", {}, "Diff"),
    found.diff ? diff(found.diff) : el("p", { class: "quiet" }, found.parent ? "Too large to be told with the record." : "None: this is the program as its author wrote it."),
    ...(found.curve.length > 1 ? [el("h2", {}, "Training"), curve] : []),
    ...(found.failure ? [el("h2", {}, "Why it was not scored"), el("pre", { tabindex: "0" }, lines(found.failure).join("\n"))] : []),
    el("h2", {}, "All runs of this candidate"), runs(found, status.peer_id),
    ...(found.notes.length ? [el("h2", {}, "Notes"), el("ul", {}, ...found.notes.map((note) =>
      el("li", {}, clean(note.text), el("span", { class: "quiet" }, ` – ${peerName(note.peer, status.peer_id)}, `), when(note.created_ms))))] : []));
  if (found.curve.length > 1) drawCurve(curve, found.curve);
  title.focus();
}

const back = () => el("p", {}, el("a", { href: "#/" }, "← All experiments"));
