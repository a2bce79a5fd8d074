"use strict";
// The chart: bytes against loss, with zoom (drag a rectangle, buttons, or + - 0 and arrow keys).
(() => {
  const { chosen, node, button, row, copy, withWidth } = report;
  const { scale, ticksOf, tickText, tickTexts, moved } = report.axes;
  const { extentOf, stepBoxes, nameLine, namePoint } = report.labels;
  const MAX_NAMES = 24; // labels in the chart; every point is named in its tooltip
  let study, trials, byRow, chart, tip, observer, metric, printWidth = 0;

  const nameOf = (number) => row(number)?.cells[0].textContent ?? `trial ${number + 1}`;
  const recipeOf = (number) => row(number)?.querySelector("code").textContent ?? "its recipe is in trials.jsonl";
  const lossText = (value, name) => (study.metrics[name].view.log_y ? value.toPrecision(3) : value.toFixed(4));
  const bytesText = (value) => `${value.toLocaleString("en-US")} B`;
  const signed = (value, digits = 1) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);

  // --- the part of the plane that is shown ---------------------------------------------------------
  const viewOf = () => chosen.views[metric] ?? study.metrics[metric].view;
  function look(x, y) {
    const { log_x, log_y } = study.metrics[metric].view;
    const sane = ([low, high]) => Number.isFinite(low) && Number.isFinite(high) && high > low && (high - low) / Math.abs(high) > 1e-7;
    if (!sane(x) || !sane(y) || (log_x && x[0] <= 0) || (log_y && y[0] <= 0)) return;
    chosen.views[metric] = { x, y, log_x, log_y };
    draw();
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
  function stepsOf(curve, x, y) {
    let path = "";
    for (const trial of curve) path += path ? `H${x(trial.nBytes)}V${y(trial[metric])}` : `M${x(trial.nBytes)} ${y(trial[metric])}`;
    return path;
  }
  // The 95 % intervals of the frontier's losses above fp32: steps like its own, where the interval is known.
  function drawBand(svg, clip, front, x, y, floor) {
    for (const [index, trial] of front.entries()) {
      const width = trial.widths[metric];
      if (width === undefined) continue;
      const next = front[index + 1];
      const [from, to] = [x(trial.nBytes) - 3, next ? x(next.nBytes) : x(trial.nBytes) + 3];
      const low = trial[metric] - width;
      const [above, below] = [y(trial[metric] + width), low > 0 || !study.metrics[metric].view.log_y ? y(low) : floor];
      add(svg, "rect", { class: "band", x: from, y: above, width: Math.max(6, to - from), height: Math.max(0, below - above), "clip-path": clip });
    }
  }
  function drawPoint(svg, trial, at, kind) {
    const onFrontier = kind.startsWith("point");
    const circle = add(svg, "circle", { cx: at[0], cy: at[1], r: onFrontier ? 6 : 4, class: kind, "data-row": trial.row });
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
  function drawStar(svg, [cx, cy]) {
    const corners = Array.from({ length: 10 }, (_, n) => {
      const [r, turn] = [n % 2 ? 5.6 : 13, (Math.PI * n) / 5];
      return `${(cx + r * Math.sin(turn)).toFixed(1)},${(cy - r * Math.cos(turn)).toFixed(1)}`;
    });
    add(svg, "polygon", { class: "star", points: corners.join(" ") });
  }

  function draw() {
    const { frontier, best, peers } = study.metrics[metric];
    const view = viewOf();
    const width = printWidth || Math.max(280, chart.clientWidth);
    const height = width < 600 ? 360 : 480;
    const [top, bottom] = [26, height - 50];
    const yTexts = tickTexts(ticksOf(view.y, view.log_y, (bottom - top) / 55), view.log_y);
    const box = [28 + 8 * Math.max(4, ...yTexts.map((text) => text.length)), top, width - 14, bottom]; // the title, then ticks
    const unit = study.unit;
    const x = scale(view.x, [box[0], box[2]], view.log_x);
    const y = scale(view.y, [box[3], box[1]], view.log_y);
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({
      viewBox: `0 0 ${width} ${height}`, role: "group", tabindex: "0", "aria-describedby": "chart-words",
      "aria-label": `Artifact size against ${study.metrics[metric].title}`,
    })) svg.setAttribute(name, value);
    hide();
    chart.replaceChildren(svg, tip);
    svg.addEventListener("keydown", onKey);
    const clip = add(add(svg, "defs", {}), "clipPath", { id: "inside" });
    add(clip, "rect", { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] });
    drawAxes(svg, box, view, x, y, unit);
    drawReferences(svg, box, view, x, y, unit);
    addDragging(svg, box, view, x, y);
    const drawable = (t) => t[metric] !== null && (t[metric] > 0 || !view.log_y);
    const visible = (t) => drawable(t) && t.nBytes >= view.x[0] && t.nBytes <= view.x[1] &&
      t[metric] >= view.y[0] && t[metric] <= view.y[1];
    const placeOf = (t) => [x(t.nBytes), y(t[metric])];
    const front = frontier.map((number) => byRow.get(number)).filter(drawable);
    const marked = new Set([...frontier, best]); // the best artifact may be beside this metric's frontier
    const filtered = (number) => row(number)?.hidden ?? false;
    const held = ([px, py]) => [Math.max(box[0], Math.min(box[2], px)), Math.max(box[1], Math.min(box[3], py))];
    let beyond = 0;
    for (const trial of trials) {
      if (!drawable(trial) || filtered(trial.row)) continue;
      if (!visible(trial)) beyond += 1;
      if (!visible(trial)) drawPoint(svg, trial, held(placeOf(trial)), "outside");
      else if (!marked.has(trial.row)) drawPoint(svg, trial, placeOf(trial), "dot");
    }
    drawBand(svg, "url(#inside)", front, x, y, box[3]);
    for (const [, rows] of peers) add(svg, "path", { class: "peer", d: stepsOf(rows.map((n) => byRow.get(n)), x, y), "clip-path": "url(#inside)" });
    add(svg, "path", { class: "steps", d: stepsOf(front, x, y), "clip-path": "url(#inside)" });
    const points = [...marked].map((number) => byRow.get(number)).filter((trial) => trial && visible(trial));
    const dim = (trial) => (filtered(trial.row) ? " dim" : "");
    for (const trial of points) drawPoint(svg, trial, placeOf(trial), `point${trial.row === best ? " best" : ""}${dim(trial)}`);
    const star = byRow.get(best);
    if (star && visible(star)) drawStar(svg, placeOf(star));
    const taken = [...svg.querySelectorAll("circle, line.fp32, line.budget")].map(extentOf).concat(stepBoxes(front.map(placeOf)));
    if (svg.querySelector("line.fp32")) {
      const name = add(svg, "text", { class: "fp32-name" }, `fp32 model ${study.fp32.toFixed(4)}`);
      const [at, near, far] = [y(study.fp32), box[0] + 6, box[2] - name.getBBox().width - 2];
      nameLine(name, [[near, at - 5], [near, at + 14], [far, at - 5], [far, at + 14]], box, taken);
    }
    const rank = (t) => (t.row === best ? 0 : marked.has(t.row) ? 1 : 2);
    const onCurves = new Set(peers.flatMap(([, rows]) => rows.slice(0, -1)));
    const named = trials.filter((t) => visible(t) && (t.row === best || (t.label && !onCurves.has(t.row) && !filtered(t.row))));
    named.sort((a, b) => rank(a) - rank(b));
    for (const trial of named.slice(0, MAX_NAMES)) {
      const isBest = trial.row === best;
      const curve = peers.find(([, rows]) => rows.at(-1) === trial.row);
      const text = isBest ? `best: ${tickText(Number((trial.nBytes / unit.divisor).toPrecision(4)))} ` +
        unit.name + (width < 600 ? "" : `, ${lossText(trial[metric], metric)}`) : (curve?.[0] ?? trial.label);
      const name = add(svg, "text", { class: `name${isBest ? " of-best" : curve ? " of-curve" : ""}` }, text);
      namePoint(name, box, taken, placeOf(trial), isBest);
    }
    const banded = front.some((trial) => trial.widths[metric] !== undefined);
    document.getElementById("chart-how").textContent = "Hover, tap or Tab to a point for its recipe; click or Enter " +
      "copies it. Drag a rectangle, use + and −, or the arrow keys.";
    document.getElementById("chart-note").textContent = "Star: the best point." +
      (banded ? " Band: 95 % interval of the loss above fp32." : "") +
      (beyond ? ` At the edge: ${beyond} trial${beyond > 1 ? "s" : ""} beyond the scale.` : "");
  }

  // --- tooltip -------------------------------------------------------------------------------------
  function show(circle, trial) {
    hide();
    circle.classList.add("chosen");
    const share = study.budget === null ? "" : ` (${((100 * trial.nBytes) / study.budget).toFixed(1)} % of budget)`;
    const rows = [node("b", nameOf(trial.row)), node("div", bytesText(trial.nBytes) + share)];
    if (trial.bpb !== undefined) {
      const above = (fp32) => withWidth(1000 * (trial.bpb - fp32), trial.widths.bpb && 1000 * trial.widths.bpb, 1, signed);
      const excess = study.fp32 === null ? "" : ` (${above(study.fp32)} mBPB to fp32)`;
      rows.push(node("div", `${trial.bpb.toFixed(4)} bits per byte${excess}`));
    }
    const klText = (value, digits) => (digits === undefined ? value.toPrecision(3) : value.toFixed(digits));
    if (trial.kl !== undefined && trial.kl !== null) rows.push(node("div", `KL ${withWidth(trial.kl, trial.widths.kl, 0, klText)} nats per token`));
    if (trial.error !== undefined) rows.push(node("div", `error of the weights ${trial.error.toPrecision(3)}`));
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
    for (const name of study.order) {
      if (!study.metrics[name]) continue;
      const made = button(study.metrics[name].name, () => {
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
  const reprint = (width) => () => {
    printWidth = width; // a page of paper is narrower than a screen: text keeps its size
    if (chart?.querySelector("svg")) draw();
  };
  addEventListener("beforeprint", reprint(660));
  addEventListener("afterprint", reprint(0));
  document.addEventListener("filtered", () => chart?.isConnected && chart.querySelector("svg") && draw());

  report.parts.push((data) => {
    study = data;
    trials = study.trials.map(([number, nBytes, label, values, widths]) => {
      const of = (list) => Object.fromEntries(study.order.map((name, n) => [name, list?.[n] ?? undefined]));
      const losses = Object.fromEntries(study.order.map((name, n) => [name, values[n]]));
      return { row: number, nBytes, label, ...losses, widths: of(widths) };
    });
    byRow = new Map(trials.map((trial) => [trial.row, trial]));
    chart = document.getElementById("chart");
    tip = node("div", "", "tip");
    tip.hidden = true;
    observer?.disconnect();
    metric = [chosen.metric, ...study.order].find((name) => study.metrics[name]);
    if (!metric) {
      chart.textContent = "No trial was measured; the table below shows why.";
      return;
    }
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
