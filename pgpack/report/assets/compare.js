"use strict";
// Two trials side by side: figures, the rules of their recipes, bytes tensor by tensor where the study kept them.
(() => {
  const { chosen, node, row } = report;
  const MAX_TENSORS = 40; // rows of tensors, those that differ most
  let study;

  const cellsOf = (line) => [...line.cells].filter((cell) => cell.matches("[data-l]"));
  const nameOf = (number) => row(number).cells[0].textContent;
  const rulesOf = (number) => row(number).querySelector("code").textContent.split("; ");
  const signed = (value, text) => (value > 0 ? "+" : value < 0 ? "−" : "") + text;

  function table(heads, lines, caption) {
    const made = node("table");
    made.append(node("caption", caption, "unseen"));
    const head = made.createTHead().insertRow();
    for (const [n, text] of heads.entries()) {
      const cell = node("th", text, n ? "n" : "name");
      cell.scope = "col";
      head.append(cell);
    }
    const body = made.createTBody();
    for (const line of lines) {
      const made = body.insertRow();
      for (const [n, text] of line.entries()) {
        const cell = node("td", "", n ? "n" : "name");
        for (const piece of text.split(/(?<=[._])/)) cell.append(piece, ...(n ? [] : [node("wbr")])); // long names of tensors
        made.append(cell);
      }
    }
    return made;
  }
  function part(title, content) {
    const made = node("div");
    made.append(node("h3", title), content);
    return made;
  }
  function figures([a, b]) {
    const other = cellsOf(row(b));
    const lines = cellsOf(row(a)).map((cell, n) => {
      const known = cell.dataset.v !== "" && other[n].dataset.v !== "";
      const by = known ? Number(other[n].dataset.v) - Number(cell.dataset.v) : null;
      const digits = (cell.textContent.split(" ")[0].split(".")[1] ?? "").length;
      const size = known ? Math.abs(by).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "";
      return [cell.dataset.l, cell.textContent, other[n].textContent, known ? signed(by, size) : ""];
    });
    return table(["", "A", "B", "B less A"], lines, "Figures of the two trials");
  }
  function rules([a, b]) {
    const [ofA, ofB] = [rulesOf(a), rulesOf(b)];
    const list = node("ul", "", "rules");
    const add = (kind, what, text) => {
      const item = node("li", "", kind);
      item.append(node("b", what), node("code", text));
      list.append(item);
    };
    for (const rule of ofA) if (!ofB.includes(rule)) add("a", "only A", rule);
    for (const rule of ofB) if (!ofA.includes(rule)) add("b", "only B", rule);
    for (const rule of ofA) if (ofB.includes(rule)) add("", "both", rule);
    return list;
  }
  function tensors([a, b]) {
    const [ofA, ofB] = [a, b].map((number) => study.tensors?.bytes[number]);
    if (!ofA || !ofB) return node("p", "The bytes of each tensor are not kept for both of them.", "note");
    const lines = study.tensors.names.map((name, n) => [name, ofA[n], ofB[n], ofB[n] - ofA[n]]);
    lines.sort((one, other) => Math.abs(other[3]) - Math.abs(one[3]));
    const text = (value) => value.toLocaleString("en-US");
    const shown = lines.slice(0, MAX_TENSORS).map(([name, x, y, by]) => [name, text(x), text(y), signed(by, text(Math.abs(by)))]);
    const made = node("div");
    made.append(table(["tensor", "A, bytes", "B, bytes", "B less A"], shown, "Bytes tensor by tensor"));
    if (lines.length > MAX_TENSORS) made.append(node("p", `${lines.length - MAX_TENSORS} more differ less.`, "note"));
    return made;
  }
  function show() {
    const result = document.getElementById("compare-result");
    const pair = chosen.pair.filter((number) => number !== "" && row(number));
    if (pair.length < 2) return result.replaceChildren();
    const made = node("div", "", "pair");
    made.append(part("Figures", figures(pair)), part("Recipes, rule by rule", rules(pair)), part("Bytes of each tensor", tensors(pair)));
    result.replaceChildren(made);
  }
  function choice(side) {
    const label = node("label", `${"AB"[side]}: `);
    const select = node("select");
    select.id = `compare-${"ab"[side]}`;
    select.append(new Option("choose a trial", ""));
    for (const line of document.querySelectorAll("#trials tbody tr:not(.failed)")) {
      const number = line.id.slice(1);
      select.append(new Option(`${line.cells[0].textContent}, ${line.cells[1].textContent} B`, number, false, number === chosen.pair[side]));
    }
    select.addEventListener("change", () => {
      chosen.pair[side] = select.value;
      show();
    });
    label.append(select);
    return label;
  }
  function pick(number) {
    const free = chosen.pair.indexOf("");
    chosen.pair = free === 0 ? [number, chosen.pair[1]] : free === 1 ? [chosen.pair[0], number] : [number, ""];
    choose();
    const full = !chosen.pair.includes("");
    report.say(full ? "the two trials stand side by side" : `${nameOf(number)} is A; press compare at another`);
    if (full) document.getElementById("compare").scrollIntoView({ block: "start" });
  }
  function choose() {
    document.getElementById("compare-choice").replaceChildren(choice(0), choice(1));
    document.getElementById("compare").hidden = false;
    show();
  }
  document.addEventListener("click", (event) => {
    const line = event.target.closest("button.pick")?.closest("tr");
    if (!line) return;
    const recipe = line.querySelector("code").textContent;
    const same = line.id ? line : [...document.querySelectorAll("#trials tbody tr")].find((each) => each.querySelector("code").textContent === recipe);
    if (same) pick(same.id.slice(1));
  });
  report.parts.push((data) => {
    study = data;
    if (document.querySelectorAll("#trials tbody tr:not(.failed)").length > 1) choose();
  });
})();
