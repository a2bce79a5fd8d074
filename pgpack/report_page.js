"use strict";
// The report's chart, copy buttons and sortable tables. No library and no request: one inline script.
(() => {
  const study = JSON.parse(document.getElementById("study").textContent);
  const trials = study.trials.map(([row, nBytes, bpb, kl, label]) => ({ row, nBytes, bpb, kl, label }));
  const byRow = new Map(trials.map((trial) => [trial.row, trial]));
  const chart = document.getElementById("chart");
  const toast = document.getElementById("toast");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  let metric = study.metrics.bpb ? "bpb" : "kl";

  const nameOf = (row) => document.querySelector(`#t${row} td`).textContent;
  const recipeOf = (row) => document.querySelector(`#t${row} code`).textContent;
  const lossText = (value, name) => (name === "kl" ? value.toPrecision(3) : value.toFixed(4));
  const bytesText = (value) => `${value.toLocaleString("en-US")} B`;

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
  for (const code of document.querySelectorAll("td code, pre.command")) {
    const button = document.createElement("button");
    const what = code.matches("pre") ? "command" : "recipe";
    button.type = "button";
    button.className = "copy";
    button.textContent = `copy ${what}`;
    button.addEventListener("click", () => copy(code.textContent, what));
    if (what === "command") code.previousElementSibling.append(" ", button);
    else code.before(button);
  }

  // --- sortable tables -----------------------------------------------------------------------------
  function sortValue(cell, numeric) {
    if (!numeric) return cell.textContent;
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  }
  function compare(a, b, down) {
    if (a === null || b === null) return (a === null) - (b === null); // unknown values come last either way
    return a === b ? 0 : a < b === down ? 1 : -1;
  }
  function sortBy(table, header) {
    const column = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => [sortValue(row.cells[column], header.matches(".n")), row]);
    keyed.sort(([a], [b]) => compare(a, b, down));
    body.append(...keyed.map(([, row]) => row));
  }
  for (const header of document.querySelectorAll("table.sortable th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sortBy(header.closest("table"), header));
    header.replaceChildren(button);
  }

  // --- axes ----------------------------------------------------------------------------------------
  function scale([low, high], [from, to], log) {
    const t = log ? Math.log : Number;
    return (value) => from + ((t(value) - t(low)) / (t(high) - t(low))) * (to - from);
  }
  function linearTicks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough) * power;
    const ticks = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(12)));
    return ticks;
  }
  function logTicks(low, high, count) {
    for (const mantissas of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
      const ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
        for (const m of mantissas) {
          const value = Number((m * 10 ** e).toPrecision(12));
          if (value >= low && value <= high) ticks.push(value);
        }
      }
      if (ticks.length >= Math.min(3, count)) return ticks;
    }
    return linearTicks(low, high, count);
  }
  const ticksOf = (range, log, count) => (log ? logTicks : linearTicks)(range[0], range[1], count);
  const tickText = (value) => Number(value.toPrecision(6)).toString();
  function tickTexts(ticks, log) {
    const decimals = Math.max(0, ...ticks.map((tick) => (tickText(tick).split(".")[1] ?? "").length));
    return ticks.map((tick) => (log ? tickText(tick) : tick.toFixed(Math.min(decimals, 8))));
  }

  // --- drawing -------------------------------------------------------------------------------------
  function add(parent, tag, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function drawAxes(svg, box, view, x, y, unit) {
    const [left, top, right, bottom] = box;
    const xTicks = ticksOf(view.x.map((v) => v / unit.divisor), view.log_x, (right - left) / 65);
    for (const [index, text] of tickTexts(xTicks, view.log_x).entries()) {
      const at = x(xTicks[index] * unit.divisor);
      add(svg, "line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom });
      add(svg, "text", { x: at, y: bottom + 18, "text-anchor": "middle" }, text);
    }
    const yTicks = ticksOf(view.y, view.log_y, (bottom - top) / 55);
    for (const [index, text] of tickTexts(yTicks, view.log_y).entries()) {
      const at = y(yTicks[index]);
      add(svg, "line", { class: "grid", x1: left, x2: right, y1: at, y2: at });
      add(svg, "text", { x: left - 8, y: at + 4, "text-anchor": "end" }, text);
    }
    add(svg, "path", { class: "frame", fill: "none", d: `M${left} ${top}V${bottom}H${right}` });
    const middle = (left + right) / 2;
    add(svg, "text", { class: "axis-title", x: middle, y: bottom + 40, "text-anchor": "middle" }, unit.title);
    const turned = { class: "axis-title", transform: `translate(14 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" };
    add(svg, "text", turned, study.metrics[metric].title);
  }
  function drawReferences(svg, box, x, y, unit) {
    const [left, top, right, bottom] = box;
    if (study.budget !== null) {
      const at = x(study.budget);
      add(svg, "line", { class: "budget", x1: at, x2: at, y1: top, y2: bottom });
      const name = add(svg, "text", { class: "budget-name", x: at, y: top - 7, "text-anchor": "middle" },
        `budget ${tickText(study.budget / unit.divisor)} ${unit.name}`);
      const half = name.getBBox().width / 2;
      name.setAttribute("x", Math.max(left + half, Math.min(right - half, at)));
    }
    if (study.fp32 !== null && metric === "bpb") {
      const at = y(study.fp32);
      add(svg, "line", { class: "fp32", x1: left, x2: right, y1: at, y2: at });
    }
  }
  function drawSteps(svg, clip, front, x, y) {
    let path = "";
    for (const trial of front) path += path ? `H${x(trial.nBytes)}V${y(trial[metric])}` : `M${x(trial.nBytes)} ${y(trial[metric])}`;
    add(svg, "path", { class: "steps", d: path, "clip-path": clip });
  }
  function drawPoint(svg, trial, x, y, kind) {
    const at = { cx: x(trial.nBytes), cy: y(trial[metric]) };
    const onFrontier = kind !== "dot";
    const circle = add(svg, "circle", { ...at, r: onFrontier ? 6 : 4, class: kind, "data-row": trial.row });
    if (onFrontier) {
      circle.setAttribute("tabindex", "0");
      circle.setAttribute("role", "button");
      circle.setAttribute("aria-label", `${nameOf(trial.row)}: ${bytesText(trial.nBytes)}, ` +
        `${lossText(trial[metric], metric)} ${study.metrics[metric].title}; Enter copies the recipe`);
      circle.addEventListener("focus", () => show(circle, trial));
      circle.addEventListener("blur", hide);
      circle.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          copy(recipeOf(trial.row), "recipe");
        } else if (event.key === "Escape") hide();
      });
    }
    circle.addEventListener("pointerenter", () => show(circle, trial));
    circle.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    circle.addEventListener("click", () => {
      show(circle, trial);
      copy(recipeOf(trial.row), "recipe");
    });
    return circle;
  }
  const touches = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
  // Moves a text to the first of `spots` (its left end and baseline) that is free; false when there is none.
  function settle(name, spots, box, taken) {
    const { width } = name.getBBox();
    for (const [left, base] of spots) {
      const place = { x: left, y: base - 11, width, height: 14 };
      const fits = left >= box[0] && left + width <= box[2] && place.y >= box[1] && place.y + 14 <= box[3];
      if (fits && !taken.some((other) => touches(place, other))) {
        name.setAttribute("x", left);
        name.setAttribute("y", base);
        taken.push(place);
        return true;
      }
    }
    return false;
  }
  function nameFp32(svg, box, taken, y) {
    const at = y(study.fp32);
    const name = add(svg, "text", { class: "fp32-name", x: box[0] + 6, y: at - 5 }, `fp32 model ${study.fp32.toFixed(4)}`);
    const { width } = name.getBBox();
    const [near, far] = [box[0] + 6, box[2] - width - 2];
    if (!settle(name, [[near, at - 5], [near, at + 12], [far, at - 5], [far, at + 12]], box, taken)) taken.push(name.getBBox());
  }
  function namePoint(svg, box, taken, at, text, must) {
    const name = add(svg, "text", { class: "name" }, text);
    const before = -10 - name.getBBox().width;
    const [px, py] = [Number(at.getAttribute("cx")), Number(at.getAttribute("cy"))];
    const around = [[10, -8], [10, 16], [before, -8], [before, 16], [10, -24], [10, 32], [before, -24]];
    if (settle(name, around.map(([dx, dy]) => [px + dx, py + dy]), box, taken)) return;
    if (!must) return name.remove(); // still named in its tooltip and in the table
    name.setAttribute("x", Math.max(box[0], Math.min(box[2] + before, px) + 10));
    name.setAttribute("y", Math.max(box[1] + 14, py - 10));
    taken.push(name.getBBox());
  }

  function draw() {
    const { view, frontier, best, outside } = study.metrics[metric];
    const width = Math.max(280, chart.clientWidth);
    const height = width < 600 ? 360 : 480;
    const [top, bottom] = [26, height - 50];
    const yTexts = tickTexts(ticksOf(view.y, view.log_y, (bottom - top) / 55), view.log_y);
    const box = [28 + 8 * Math.max(4, ...yTexts.map((text) => text.length)), top, width - 14, bottom]; // the title, then ticks
    const unit = study.unit;
    const x = scale(view.x, [box[0], box[2]], view.log_x);
    const y = scale(view.y, [box[3], box[1]], view.log_y);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `Artifact size against ${study.metrics[metric].title}`);
    hide();
    chart.replaceChildren(svg, tip);
    const clip = add(add(svg, "defs", {}), "clipPath", { id: "inside" });
    add(clip, "rect", { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] });
    drawAxes(svg, box, view, x, y, unit);
    drawReferences(svg, box, x, y, unit);
    const visible = (t) => t[metric] !== null && t.nBytes >= view.x[0] && t.nBytes <= view.x[1] &&
      t[metric] >= view.y[0] && t[metric] <= view.y[1];
    const front = frontier.map((row) => byRow.get(row));
    const marked = new Set([...frontier, best]); // the best artifact may be beside this metric's frontier
    for (const trial of trials) if (!marked.has(trial.row) && visible(trial)) drawPoint(svg, trial, x, y, "dot");
    drawSteps(svg, "url(#inside)", front.filter((t) => t[metric] > 0 || !view.log_y), x, y);
    for (const row of marked) {
      const trial = byRow.get(row);
      if (trial && visible(trial)) drawPoint(svg, trial, x, y, row === best ? "point best" : "point");
    }
    const taken = [...svg.querySelectorAll("circle, line.fp32")].map((mark) => mark.getBBox());
    if (study.fp32 !== null && metric === "bpb") nameFp32(svg, box, taken, y);
    const named = trials.filter((t) => visible(t) && (t.row === best || t.label));
    named.sort((a, b) => (b.row === best) - (a.row === best));
    for (const trial of named) {
      const isBest = trial.row === best;
      const label = trial.label && trial.label.length <= 20 ? trial.label : "best"; // a longer one leaves a phone's chart
      const text = isBest ? `${label}: ${tickText(Number((trial.nBytes / unit.divisor).toPrecision(4)))} ` +
        `${unit.name}, ${lossText(trial[metric], metric)}` : trial.label;
      namePoint(svg, box, taken, svg.querySelector(`circle[data-row="${trial.row}"]`), text, isBest);
    }
    const away = outside ? ` ${outside} trial${outside > 1 ? "s" : ""} outside this view: see the table below.` : "";
    document.getElementById("chart-note").textContent = `Hover, tap or Tab to a point for its recipe; click or Enter copies it.${away}`;
  }

  // --- tooltip -------------------------------------------------------------------------------------
  function line(tag, text, className) {
    const node = document.createElement(tag);
    node.textContent = text;
    if (className) node.className = className;
    return node;
  }
  function show(circle, trial) {
    hide();
    circle.classList.add("chosen");
    const share = study.budget === null ? "" : ` (${((100 * trial.nBytes) / study.budget).toFixed(1)} % of budget)`;
    const rows = [line("b", nameOf(trial.row)), line("div", bytesText(trial.nBytes) + share)];
    const excess = study.fp32 === null ? "" : ` (${signed(1000 * (trial.bpb - study.fp32))} mBPB to fp32)`;
    rows.push(line("div", `${trial.bpb.toFixed(4)} bits per byte${excess}`));
    if (trial.kl !== null) rows.push(line("div", `KL ${trial.kl.toPrecision(3)} nats per token`));
    rows.push(line("code", recipeOf(trial.row)), line("div", "click copies the recipe", "hint"));
    tip.replaceChildren(...rows);
    tip.hidden = false;
    const ratio = chart.clientWidth / circle.ownerSVGElement.viewBox.baseVal.width;
    const [px, py] = [circle.cx.baseVal.value * ratio, circle.cy.baseVal.value * ratio];
    const room = chart.clientWidth - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(room, px > chart.clientWidth / 2 ? px - tip.offsetWidth - 14 : px + 14))}px`;
    const below = py + 14;
    tip.style.top = `${room < 60 || py < tip.offsetHeight ? below : py - tip.offsetHeight - 10}px`;
  }
  function hide() {
    tip.hidden = true;
    for (const circle of chart.querySelectorAll(".chosen")) circle.classList.remove("chosen");
  }
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);

  if (!study.metrics.bpb && !study.metrics.kl) {
    chart.textContent = "No trial was measured; the table below shows why.";
    return;
  }
  const controls = document.getElementById("controls");
  for (const [name, text] of [["bpb", "bits per byte"], ["kl", "KL to fp32"]]) {
    if (!study.metrics[name]) continue;
    const button = line("button", text);
    button.type = "button";
    button.dataset.metric = name;
    button.setAttribute("aria-pressed", String(name === metric));
    button.addEventListener("click", () => {
      metric = name;
      for (const other of controls.children) other.setAttribute("aria-pressed", String(other === button));
      draw();
    });
    controls.append(button);
  }
  controls.hidden = false;
  document.addEventListener("pointerdown", (event) => event.target.closest("circle") || hide());
  let drawnWidth = chart.clientWidth;
  draw();
  new ResizeObserver(() => {
    if (chart.clientWidth === drawnWidth) return;
    drawnWidth = chart.clientWidth;
    requestAnimationFrame(draw); // outside the observer's own turn, or browsers report a loop
  }).observe(chart);
})();
