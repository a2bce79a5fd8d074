"use strict";
// The chart: bytes against loss, with zoom (drag a rectangle, buttons, or + - 0 and arrow keys).
(() => {
  const { chosen, node, button, row, copy, withWidth } = report;
  const MAX_NAMES = 24; // labels in the chart; every point is named in its tooltip
  let study, trials, byRow, chart, tip, observer, metric;

  const nameOf = (number) => row(number)?.cells[0].textContent ?? `trial ${number + 1}`;
  const recipeOf = (number) => row(number)?.querySelector("code").textContent ?? "its recipe is in trials.jsonl";
  const lossText = (value, name) => (name === "kl" ? value.toPrecision(3) : value.toFixed(4));
  const bytesText = (value) => `${value.toLocaleString("en-US")} B`;
  const signed = (value, digits = 1) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

  // --- axes ----------------------------------------------------------------------------------------
  function scale([low, high], [from, to], log) {
    const t = log ? Math.log : Number;
    const map = (value) => from + ((t(value) - t(low)) / (t(high) - t(low))) * (to - from);
    map.back = (at) => (log ? Math.exp : Number)(t(low) + ((at - from) / (to - from)) * (t(high) - t(low)));
    return map;
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

  // --- the part of the plane that is shown ---------------------------------------------------------
  const viewOf = () => chosen.views[metric] ?? study.metrics[metric].view;
  function look(x, y) {
    const { log_x, log_y } = study.metrics[metric].view;
    const sane = ([low, high]) => Number.isFinite(low) && Number.isFinite(high) && high > low && (high - low) / Math.abs(high) > 1e-7;
    if (!sane(x) || !sane(y) || (log_x && x[0] <= 0) || (log_y && y[0] <= 0)) return;
    chosen.views[metric] = { x, y, log_x, log_y };
    draw();
  }
  // The range seen after moving by `shift` and growing by `factor` around its middle, on the axis's own scale.
  function moved([low, high], log, factor, shift) {
    const [t, back] = log ? [Math.log, Math.exp] : [Number, Number];
    const middle = (t(low) + t(high)) / 2 + shift * (t(high) - t(low));
    const half = ((t(high) - t(low)) / 2) * factor;
    return [back(middle - half), back(middle + half)];
  }
  function zoom(factor, right = 0, up = 0) {
    const view = viewOf();
    look(moved(view.x, view.log_x, factor, right), moved(view.y, view.log_y, factor, up));
  }
  function reset() {
    delete chosen.views[metric];
    draw();
  }
  function lookAtAll() {
    const { log_x, log_y } = study.metrics[metric].view;
    const shown = trials.filter((t) => t[metric] !== null && (t[metric] > 0 || !log_y));
    const extent = (values) => [Math.min(...values), Math.max(...values)];
    const x = extent([...shown.map((t) => t.nBytes), ...(study.budget === null ? [] : [study.budget])]);
    const y = extent([...shown.map((t) => t[metric]), ...(study.fp32 !== null && metric === "bpb" ? [study.fp32] : [])]);
    look(moved(x, log_x, 1.1, 0), moved(y, log_y, 1.1, 0));
  }
  const KEYS = {
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": reset,
    ArrowLeft: () => zoom(1, -0.15), ArrowRight: () => zoom(1, 0.15), ArrowUp: () => zoom(1, 0, 0.15), ArrowDown: () => zoom(1, 0, -0.15),
  };
  function onKey(event) {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    const kept = document.activeElement?.dataset?.row;
    act();
    const again = kept === undefined ? null : chart.querySelector(`circle[data-row="${kept}"]`);
    (again ?? chart.querySelector("svg")).focus({ preventScroll: true });
  }
  // A rectangle drawn with mouse or pen becomes the view; fingers scroll the page and use the buttons.
  function addDragging(svg, box, view, x, y) {
    let from = null, mark = null;
    const at = (event) => {
      const frame = svg.getBoundingClientRect();
      const ratio = svg.viewBox.baseVal.width / frame.width;
      const inside = (value, low, high) => Math.max(low, Math.min(high, value));
      return [inside((event.clientX - frame.left) * ratio, box[0], box[2]), inside((event.clientY - frame.top) * ratio, box[1], box[3])];
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0 || event.target.closest("circle")) return;
      from = at(event);
      svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    svg.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      mark ??= add(svg, "rect", { class: "zoom-mark" });
      const [left, top] = [Math.min(from[0], to[0]), Math.min(from[1], to[1])];
      for (const [name, value] of Object.entries({ x: left, y: top, width: Math.abs(to[0] - from[0]), height: Math.abs(to[1] - from[1]) })) {
        mark.setAttribute(name, value);
      }
    });
    svg.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [start, end] = [from, at(event)];
      from = null;
      if (mark) mark.remove();
      mark = null;
      if (Math.abs(start[0] - end[0]) < 8 || Math.abs(start[1] - end[1]) < 8) return;
      const range = (one, other, map) => [map(one), map(other)].sort((a, b) => a - b);
      look(range(start[0], end[0], x.back), range(start[1], end[1], y.back));
    });
    svg.addEventListener("dblclick", reset);
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
  function drawReferences(svg, box, view, x, y, unit) {
    const [left, top, right, bottom] = box;
    const within = (value, [low, high]) => value !== null && value >= low && value <= high;
    if (within(study.budget, view.x)) {
      const at = x(study.budget);
      add(svg, "line", { class: "budget", x1: at, x2: at, y1: top, y2: bottom });
      const name = add(svg, "text", { class: "budget-name", x: at, y: top - 7, "text-anchor": "middle" },
        `budget ${tickText(study.budget / unit.divisor)} ${unit.name}`);
      const half = name.getBBox().width / 2;
      name.setAttribute("x", Math.max(left + half, Math.min(right - half, at)));
    }
    if (within(study.fp32, view.y) && metric === "bpb") {
      const at = y(study.fp32);
      add(svg, "line", { class: "fp32", x1: left, x2: right, y1: at, y2: at });
    }
  }
  function drawSteps(svg, clip, front, x, y) {
    let path = "";
    for (const trial of front) path += path ? `H${x(trial.nBytes)}V${y(trial[metric])}` : `M${x(trial.nBytes)} ${y(trial[metric])}`;
    add(svg, "path", { class: "steps", d: path, "clip-path": clip });
  }
  // The 95 % interval of a point's loss above the fp32 model; one that reaches 0 is an arrow on a logarithmic axis.
  function drawInterval(svg, clip, trial, x, y, kind) {
    const [at, loss, width] = [x(trial.nBytes), trial[metric], trial.widths[metric]];
    const below = study.metrics[metric].view.log_y && width >= loss ? "v17m-4 -5l4 5l4 -5" : `V${y(loss - width)}m-4 0h8`;
    const d = `M${at - 4} ${y(loss + width)}h8m-4 0V${y(loss)}${below}`;
    add(svg, "path", { class: `interval${kind}`, d, "clip-path": clip });
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
  // What a mark covers, from its own numbers: asking the browser would have it lay out every circle first.
  function extentOf(mark) {
    const at = (name) => Number(mark.getAttribute(name));
    if (mark.tagName === "line") return { x: at("x1"), y: at("y1"), width: at("x2") - at("x1"), height: 0 };
    return { x: at("cx") - at("r"), y: at("cy") - at("r"), width: 2 * at("r"), height: 2 * at("r") };
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
    const { frontier, best } = study.metrics[metric];
    const view = viewOf();
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
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("aria-label", `Artifact size against ${study.metrics[metric].title}`);
    hide();
    chart.replaceChildren(svg, tip);
    svg.addEventListener("keydown", onKey);
    const clip = add(add(svg, "defs", {}), "clipPath", { id: "inside" });
    add(clip, "rect", { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] });
    drawAxes(svg, box, view, x, y, unit);
    drawReferences(svg, box, view, x, y, unit);
    addDragging(svg, box, view, x, y);
    const visible = (t) => t[metric] !== null && t.nBytes >= view.x[0] && t.nBytes <= view.x[1] &&
      t[metric] >= view.y[0] && t[metric] <= view.y[1];
    const front = frontier.map((number) => byRow.get(number));
    const marked = new Set([...frontier, best]); // the best artifact may be beside this metric's frontier
    const filtered = (number) => row(number)?.hidden ?? false;
    for (const trial of trials) {
      if (!marked.has(trial.row) && visible(trial) && !filtered(trial.row)) drawPoint(svg, trial, x, y, "dot");
    }
    drawSteps(svg, "url(#inside)", front.filter((t) => t[metric] > 0 || !view.log_y), x, y);
    const points = [...marked].map((number) => byRow.get(number)).filter((trial) => trial && visible(trial));
    const dim = (trial) => (filtered(trial.row) ? " dim" : "");
    const sure = points.filter((trial) => trial.widths[metric] !== undefined);
    for (const trial of sure) drawInterval(svg, "url(#inside)", trial, x, y, dim(trial));
    for (const trial of points) drawPoint(svg, trial, x, y, `point${trial.row === best ? " best" : ""}${dim(trial)}`);
    const taken = [...svg.querySelectorAll("circle, line.fp32")].map(extentOf);
    if (svg.querySelector("line.fp32")) nameFp32(svg, box, taken, y);
    const rank = (t) => (t.row === best ? 0 : marked.has(t.row) ? 1 : 2);
    const named = trials.filter((t) => visible(t) && (t.row === best || (t.label && !filtered(t.row))));
    named.sort((a, b) => rank(a) - rank(b));
    for (const trial of named.slice(0, MAX_NAMES)) {
      const isBest = trial.row === best;
      const label = trial.label && trial.label.length <= 20 ? trial.label : "best"; // a longer one leaves a phone's chart
      const text = isBest ? `${label}: ${tickText(Number((trial.nBytes / unit.divisor).toPrecision(4)))} ` +
        `${unit.name}, ${lossText(trial[metric], metric)}` : trial.label;
      namePoint(svg, box, taken, svg.querySelector(`circle[data-row="${trial.row}"]`), text, isBest);
    }
    const outside = trials.filter((t) => t[metric] !== null && (t[metric] > 0 || !view.log_y) && !visible(t)).length;
    const away = outside ? ` ${outside} trial${outside > 1 ? "s" : ""} outside this view: see the table below.` : "";
    document.getElementById("chart-note").textContent = `Hover, tap or Tab to a point for its recipe; click or Enter copies it. ` +
      `Drag a rectangle or use + and − to zoom.${sure.length ? " Bars: 95 % intervals of the loss above fp32, where wider than a point; an arrow reaches 0." : ""}${away}`;
  }

  // --- tooltip -------------------------------------------------------------------------------------
  function show(circle, trial) {
    hide();
    circle.classList.add("chosen");
    const share = study.budget === null ? "" : ` (${((100 * trial.nBytes) / study.budget).toFixed(1)} % of budget)`;
    const rows = [node("b", nameOf(trial.row)), node("div", bytesText(trial.nBytes) + share)];
    const above = (fp32) => withWidth(1000 * (trial.bpb - fp32), trial.widths.bpb && 1000 * trial.widths.bpb, 1, signed);
    const excess = study.fp32 === null ? "" : ` (${above(study.fp32)} mBPB to fp32)`;
    rows.push(node("div", `${trial.bpb.toFixed(4)} bits per byte${excess}`));
    const klText = (value, digits) => (digits === undefined ? value.toPrecision(3) : value.toFixed(digits));
    if (trial.kl !== null) rows.push(node("div", `KL ${withWidth(trial.kl, trial.widths.kl, 0, klText)} nats per token`));
    rows.push(node("code", recipeOf(trial.row)), node("div", "click copies the recipe", "hint"));
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

  // --- controls ------------------------------------------------------------------------------------
  function addControls() {
    const controls = document.getElementById("controls");
    const metrics = node("span", "", "group");
    metrics.setAttribute("role", "group");
    metrics.setAttribute("aria-label", "Loss on the vertical axis");
    for (const [name, text] of [["bpb", "bits per byte"], ["kl", "KL to fp32"]]) {
      if (!study.metrics[name]) continue;
      const made = button(text, () => {
        chosen.metric = metric = name;
        for (const other of metrics.children) other.setAttribute("aria-pressed", String(other === made));
        draw();
      });
      made.dataset.metric = name;
      made.setAttribute("aria-pressed", String(name === metric));
      metrics.append(made);
    }
    const views = node("span", "", "group");
    views.setAttribute("role", "group");
    views.setAttribute("aria-label", "Part of the plane");
    for (const [name, text, title, act] of [
      ["in", "+", "zoom in", () => zoom(0.6)], ["out", "−", "zoom out", () => zoom(1 / 0.6)],
      ["reset", "frontier", "show the frontier", reset], ["all", "all trials", "show every trial", lookAtAll],
    ]) {
      const made = button(text, act);
      made.dataset.zoom = name;
      made.title = title;
      made.setAttribute("aria-label", title);
      views.append(made);
    }
    controls.replaceChildren(metrics, views);
    controls.hidden = false;
  }
  document.addEventListener("pointerdown", (event) => tip && (event.target.closest("circle") || hide()));
  document.addEventListener("filtered", () => chart?.isConnected && chart.querySelector("svg") && draw());

  report.parts.push((data) => {
    study = data;
    trials = study.trials.map(([number, nBytes, bpb, kl, label, ...widths]) => {
      const [ofBpb, ofKl] = widths.map((width) => width ?? undefined);
      return { row: number, nBytes, bpb, kl, label, widths: { bpb: ofBpb, kl: ofKl } };
    });
    byRow = new Map(trials.map((trial) => [trial.row, trial]));
    chart = document.getElementById("chart");
    if (study.static) return;
    tip = node("div", "", "tip");
    tip.hidden = true;
    observer?.disconnect();
    if (!study.metrics.bpb && !study.metrics.kl) {
      chart.textContent = "No trial was measured; the table below shows why.";
      return;
    }
    metric = [chosen.metric, study.metric, "bpb", "kl"].find((name) => study.metrics[name]);
    addControls();
    let drawnWidth = chart.clientWidth;
    draw();
    observer = new ResizeObserver(() => {
      if (chart.clientWidth === drawnWidth) return;
      drawnWidth = chart.clientWidth;
      requestAnimationFrame(draw); // outside the observer's own turn, or browsers report a loop
    });
    observer.observe(chart);
  });
})();
