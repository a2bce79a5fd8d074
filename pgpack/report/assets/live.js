"use strict";
// News of a sweep that is still running: asks the page's own server, and renews the page in place when there is some.
(() => {
  const PAUSE_MS = 1500;
  const state = document.getElementById("live");
  let version = state.dataset.version;
  let since = Date.now();

  async function renew() {
    const answer = await fetch("./", { cache: "no-store" });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text.trim());
    const fresh = new DOMParser().parseFromString(text, "text/html"); // runs no script of it
    const focused = document.activeElement?.id;
    const place = [scrollX, scrollY];
    document.querySelector("header > h1").replaceWith(fresh.querySelector("header > h1"));
    for (const part of ["header > .lead", "header > .cards", "main", "footer", "#study"]) {
      document.querySelector(part).replaceWith(fresh.querySelector(part));
    }
    version = fresh.getElementById("live").dataset.version;
    since = Date.now();
    report.start();
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    scrollTo(...place);
  }
  const clock = (moment) => new Date(moment).toLocaleTimeString();
  async function ask() {
    try {
      const answer = await fetch("./version", { cache: "no-store" });
      const now = (await answer.text()).trim();
      if (!answer.ok) throw new Error(now);
      if (now !== version) await renew();
      state.textContent = `live; as of ${clock(since)}`;
      state.classList.remove("lost");
    } catch (error) {
      const reason = error instanceof TypeError ? "the command that serves this page has ended" : error.message;
      state.textContent = `not live: ${reason}; shown is the state of ${clock(since)}`;
      state.classList.add("lost");
    }
    setTimeout(ask, PAUSE_MS);
  }
  ask();
})();
