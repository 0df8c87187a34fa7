// Elements and words. Nothing here, or anywhere on this page, takes a peer's words for HTML: they become text nodes.

export const $ = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// What had the keyboard's focus keeps it: a link is found again by where it leads.
export function fill(place, ...children) {
  const focused = document.activeElement;
  const link = place.contains(focused) ? focused.getAttribute("href") : null;
  place.replaceChildren(...children);
  if (link) place.querySelector(`a[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
}

// What can't be seen would let a peer's words pass for others': controls, and changes of the writing direction.
export const clean = (text) => String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]+/gu, " ");
export const lines = (text) => String(text ?? "").split("\n").map(clean);

export const short = (commit) => (commit ? commit.slice(0, 10) : "");
export const peerName = (peer, me) => (peer === me ? "me" : "…" + clean(peer).slice(-6));
export const metric = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(6)).toString());

// An error: more than two of its digits say nothing.
export const error = (value) => Number(value.toPrecision(2)).toString();
export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export function span(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 360000 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} d`;
}

export const ago = (ms) => `${span((Date.now() - ms) / 1000)} ago`;

export function when(ms) {
  const date = new Date(ms);
  return el("time", { datetime: date.toISOString(), title: date.toLocaleString() }, ago(ms));
}

export async function ask(path, body) {
  const token = sessionStorage.getItem("token");
  const given = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}) },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, given);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? `${answer.status} ${answer.statusText}`);
  return found;
}
