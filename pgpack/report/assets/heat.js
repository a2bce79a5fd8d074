"use strict";
// The heat map's other faces: share of bytes, expected loss, what a kilobyte would save. Colours as in report/anatomy.py.
report.parts.push(() => {
  const { chosen, button } = report;
  const home = document.getElementById("heat-controls");
  if (!home) return;
  const cells = [...document.querySelectorAll("table.heat td[data-bits]")];
  const bitsNote = document.getElementById("heat-note").textContent;
  const FACES = {
    bits: ["bits per weight", bitsNote, (value) => value.toFixed(2)],
    share: ["% of bytes", "Each tensor's share of the best artifact, in percent of the file.", (value) => value.toFixed(1)],
    loss: ["loss", "Expected nats per token that quantizing each tensor adds (logarithmic colours).", (value) => value.toPrecision(2)],
    slope: ["saved by 1 kB", "Expected loss that 1,000 more bytes would save there; equal everywhere is the best allocation.",
      (value) => value.toPrecision(2)],
  };
  const [PALE, DEEP, DARK] = [[0xf1, 0xf6, 0xfb], [0x0b, 0x3d, 0x75], 0.68];
  function paint(face) {
    const [, note, text] = FACES[face];
    const known = cells.filter((cell) => face in cell.dataset);
    const log = face === "loss" || face === "slope";
    const scaled = (cell) => (log ? Math.log(Math.max(1e-300, Number(cell.dataset[face]))) : Number(cell.dataset[face]));
    const positive = known.filter((cell) => !("small" in cell.dataset) && (!log || Number(cell.dataset[face]) > 0));
    const values = positive.map(scaled);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    for (const cell of cells) {
      const value = face in cell.dataset ? Number(cell.dataset[face]) : null;
      const depth = value === null || high <= low ? 0 : Math.max(0, Math.min(1, (scaled(cell) - low) / (high - low)));
      const shade = PALE.map((pale, i) => Math.round(pale + (DEEP[i] - pale) * depth));
      cell.style.background = value === null ? "none" : `rgb(${shade})`;
      cell.style.color = depth > DARK ? "#ffffff" : "#000000";
      cell.textContent = value === null ? "" : text(value);
    }
    document.getElementById("heat-note").textContent = note;
  }
  const faces = Object.keys(FACES).filter((face) => cells.some((cell) => face in cell.dataset));
  const buttons = faces.map((face) => {
    const made = button(FACES[face][0], () => {
      chosen.heat = face;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === made));
      paint(face);
    });
    made.dataset.heat = face;
    made.setAttribute("aria-pressed", String(face === chosen.heat));
    return made;
  });
  home.replaceChildren(...buttons);
  home.hidden = false;
  if (chosen.heat !== "bits" && faces.includes(chosen.heat)) paint(chosen.heat);
});
report.start();
