// Small helpers. Text is always inserted as text, never as markup, since names come from files.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null));
}

// Fill a <select> with [value, text] pairs, and choose one.
export function choices(select, pairs, chosen) {
  fill(select, ...pairs.map(([value, text]) => make("option", { value, textContent: text })));
  select.value = String(chosen);
  if (select.selectedIndex < 0) select.selectedIndex = 0;
}

export async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

// Three significant digits, without trailing zeros.
export function short(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

// Two ends of a scale, with enough decimals to differ, without trailing zeros.
export function ends([low, high]) {
  const step = Math.abs(high - low);
  const decimals = Number.isFinite(step) && step > 0 ? Math.min(12, Math.max(0, 2 - Math.floor(Math.log10(step)))) : null;
  const text = (value) => (decimals === null ? short(value) : String(Number(value.toFixed(decimals))).replace("-", "−"));
  return [text(low), text(high)];
}

let fading;
export function toast(text) {
  const element = $("toast");
  element.textContent = text;
  element.classList.add("shown");
  clearTimeout(fading);
  fading = setTimeout(() => element.classList.remove("shown"), 3500);
}
