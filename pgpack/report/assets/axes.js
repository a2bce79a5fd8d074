"use strict";
// Scales and ticks of the chart, linear and logarithmic.
report.axes = (() => {
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
  // The range seen after moving by `shift` and growing by `factor` around its middle, on the axis's own scale.
  function moved([low, high], log, factor, shift) {
    const [t, back] = log ? [Math.log, Math.exp] : [Number, Number];
    const middle = (t(low) + t(high)) / 2 + shift * (t(high) - t(low));
    const half = ((t(high) - t(low)) / 2) * factor;
    return [back(middle - half), back(middle + half)];
  }
  return { scale, ticksOf, tickText, tickTexts, moved };
})();
