"use strict";
// The report's shared state, copying, sortable and filtered tables. No library and no request: inline scripts.
// `report.start()` brings the page to life; a page that is renewed in place calls it again, and what the reader chose
// (metric, zoom, sorting, filter) stays.
const report = (() => {
  const chosen = { metric: "", views: {}, sorts: {}, words: "", kind: "all", heat: "bits", pair: ["", ""] };
  const parts = []; // (study) => void, run by start() in order
  const toast = document.getElementById("toast");

  // where a recipe may go on in the next line
  const BREAKS = /(?<=[|;])|(?<=,)(?!\d{3}(?!\d))|(?=[(@])|(?<=[.=])(?=[a-z*])/;
  function node(tag, text, className) {
    const made = document.createElement(tag);
    if (text && tag === "code") made.append(...text.split(BREAKS).flatMap((piece, n) => (n ? [node("wbr"), piece] : [piece])));
    else if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  }
  function button(text, act, className) {
    const made = node("button", text, className);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }
  const row = (number) => document.getElementById(`t${number}`);
  // `show(value, decimals)` and, where it is known, the half width of its interval with two digits.
  function withWidth(value, width, least, show) {
    if (width === undefined) return show(value);
    const digits = Math.min(8, Math.max(least, width ? 1 - Math.floor(Math.log10(width)) : 1));
    return `${show(value, digits)} ± ${width.toFixed(digits)}`;
  }

  // --- copying -------------------------------------------------------------------------------------
  let toastTimer = 0;
  function say(message) {
    toast.textContent = message;
    toast.classList.add("on");
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => toast.classList.remove("on"), 1800);
  }
  function copyByHand(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (focused) focused.focus({ preventScroll: true });
    return done;
  }
  async function copy(text, what) {
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyByHand(text); // pages opened from disk have no clipboard in some browsers
    }
    say(done ? `${what} copied` : `the browser refused to copy; select the ${what} in the table`);
  }
  function addCopyButtons() {
    for (const code of document.querySelectorAll("pre.command")) {
      const made = node("button", "copy command", "copy");
      made.type = "button";
      code.previousElementSibling.append(" ", made);
    }
  }
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("button.copy");
    if (!pressed) return;
    const cell = pressed.closest("td");
    const code = cell ? cell.querySelector("code") : pressed.closest("p").nextElementSibling;
    copy(code.textContent, cell ? "recipe" : "command");
  });

  // --- sorting -------------------------------------------------------------------------------------
  function sortValue(cell, numeric) {
    if (!numeric) return cell.textContent;
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  }
  function compare(a, b, down) {
    if (a === null || b === null) return (a === null) - (b === null); // unknown values come last either way
    return a === b ? 0 : a < b === down ? 1 : -1;
  }
  function sortBy(table, header, down) {
    const column = header.cellIndex;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((line) => [sortValue(line.cells[column], header.matches(".n")), line]);
    keyed.sort(([a], [b]) => compare(a, b, down));
    body.append(...keyed.map(([, line]) => line));
  }
  const homeOf = (table) => table.closest("section").getAttribute("aria-labelledby");
  document.addEventListener("click", (event) => {
    const header = event.target.closest("button.sort")?.closest("th");
    if (!header) return;
    const table = header.closest("table");
    const down = header.getAttribute("aria-sort") === "ascending";
    chosen.sorts[homeOf(table)] = [header.cellIndex, down];
    sortBy(table, header, down);
  });
  function sortAgain() {
    for (const table of document.querySelectorAll("table.sortable")) {
      const [column, down] = chosen.sorts[homeOf(table)] ?? [];
      if (column !== undefined) sortBy(table, table.tHead.rows[0].cells[column], down);
    }
  }

  // --- filtering -----------------------------------------------------------------------------------
  const KINDS = {
    all: ["all trials", () => true],
    front: ["on the frontier", (line) => line.matches(".front")],
    fitting: ["within the budget", (line, study) => Number(line.cells[1].dataset.v || Infinity) <= study.budget],
    failed: ["failed", (line) => line.matches(".failed")],
  };
  function filter(study) {
    const words = chosen.words.toLowerCase().split(/\s+/).filter(Boolean);
    const [, ofKind] = KINDS[chosen.kind];
    const lines = document.querySelectorAll("#trials tbody tr");
    let shown = 0;
    for (const line of lines) {
      line.searched ??= [line.cells[0], ...line.querySelectorAll("code, .error")].map((part) => part.textContent).join(" ").toLowerCase();
      line.hidden = !(ofKind(line, study) && words.every((word) => line.searched.includes(word)));
      shown += !line.hidden;
    }
    const count = document.getElementById("filter-count");
    count.textContent = `${shown.toLocaleString("en-US")} of ${lines.length.toLocaleString("en-US")} shown`;
    document.dispatchEvent(new Event("filtered"));
  }
  function addFilter(study) {
    const home = document.getElementById("filter");
    const words = node("input");
    Object.assign(words, { type: "search", id: "filter-words", value: chosen.words, placeholder: "words in name, recipe or error" });
    words.setAttribute("aria-label", "Words that a trial's name, recipe or error must hold");
    words.addEventListener("input", () => {
      chosen.words = words.value;
      filter(study);
    });
    const kind = node("select");
    kind.id = "filter-kind";
    kind.setAttribute("aria-label", "Which trials");
    for (const [name, [text]] of Object.entries(KINDS)) {
      if (name === "fitting" && study.budget === null) continue;
      kind.append(new Option(text, name, false, name === chosen.kind));
    }
    kind.addEventListener("change", () => {
      chosen.kind = kind.value;
      filter(study);
    });
    const count = node("span", "", "note");
    count.id = "filter-count";
    count.setAttribute("role", "status");
    home.replaceChildren(words, kind, count);
    home.hidden = false;
    filter(study);
  }
  parts.push(addCopyButtons, sortAgain, addFilter);

  function start() {
    const study = JSON.parse(document.getElementById("study").textContent);
    for (const part of parts) part(study);
  }
  return { chosen, parts, start, node, button, row, copy, say, withWidth };
})();
