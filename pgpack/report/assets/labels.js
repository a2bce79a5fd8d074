"use strict";
// Names in the chart: each at the first free place around its point, none over another.
report.labels = (() => {
  // What a mark covers, from its own numbers: asking the browser would have it lay out every circle first.
  function extentOf(mark) {
    const at = (name) => Number(mark.getAttribute(name));
    if (mark.tagName === "line") return { x: at("x1"), y: at("y1"), width: at("x2") - at("x1"), height: at("y2") - at("y1") };
    const r = mark.matches(".best") ? 13 : at("r");
    return { x: at("cx") - r, y: at("cy") - r, width: 2 * r, height: 2 * r, center: [at("cx"), at("cy")] };
  }
  // The steps of a frontier through `places`, as boxes without width or height.
  function stepBoxes(places) {
    return places.slice(1).flatMap(([x, y], n) => {
      const [px, py] = places[n];
      return [{ x: px, y: py, width: x - px, height: 0 }, { x, y: py, width: 0, height: y - py }];
    });
  }
  const touches = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
  const apart = ([x, y], box) =>
    Math.hypot(Math.max(box.x - x, 0, x - box.x - box.width), Math.max(box.y - y, 0, y - box.y - box.height));
  // Whether a reader would take `place` for the name of another point than that at `own`.
  const misleads = (place, own, taken) =>
    taken.some(({ center }) => center && (center[0] !== own[0] || center[1] !== own[1]) && apart(center, place) < apart(own, place));
  // Moves a text to the first of `spots` (its left end and baseline) that is free; false when there is none.
  function settle(name, spots, box, taken, own) {
    const { width } = name.getBBox();
    for (const [left, base] of spots) {
      const place = { x: left, y: base - 11, width, height: 14 };
      const fits = left >= box[0] && left + width <= box[2] && place.y >= box[1] && place.y + 14 <= box[3];
      if (fits && !taken.some((other) => touches(place, other)) && !(own && misleads(place, own, taken))) {
        name.setAttribute("x", left);
        name.setAttribute("y", base);
        taken.push(place);
        return true;
      }
    }
    return false;
  }
  // A name of a line: at the first free spot, or at the first of all.
  function nameLine(name, spots, box, taken) {
    if (settle(name, spots, box, taken)) return;
    name.setAttribute("x", spots[0][0]);
    name.setAttribute("y", spots[0][1]);
    taken.push(name.getBBox());
  }
  function namePoint(name, box, taken, [px, py], must) {
    const gap = must ? 16 : 10;
    const before = -gap - name.getBBox().width;
    const around = [[gap, -8], [before, 16], [gap, 16], [before, -8], [gap, -24], [before, 32], [gap, 32], [before, -24],
      [before + gap, 34], [before + gap, -26], [before / 2, 36], [before / 2, -26], [gap, 52], [before, 52], [gap, -44], [before, -44]];
    const own = must ? null : taken.map((other) => other.center).find((c) => c && Math.hypot(c[0] - px, c[1] - py) < 0.01);
    if (settle(name, around.map(([dx, dy]) => [px + dx, py + dy]), box, taken, own)) return;
    if (!must) return name.remove(); // still named in its tooltip and in the table
    name.setAttribute("x", Math.max(box[0] + 4, Math.min(box[2] - name.getBBox().width - 4, px + gap)));
    name.setAttribute("y", Math.max(box[1] + 14, py - gap));
    taken.push(name.getBBox());
  }
  return { extentOf, stepBoxes, nameLine, namePoint };
})();
