// The pages work without this. In Airflow's frame it takes over its theme, and lets links to Airflow leave the frame:
// a frame may not navigate the window around it, but that window's own router can be told.
"use strict";
(() => {
  const root = document.documentElement;
  let outer = null;
  try {
    outer = window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    outer = null; // another site's frame
  }
  const theme = () => {
    const of = outer ? outer.document.documentElement : null;
    const dark = of ? of.classList.contains("dark") : localStorage.getItem("theme") === "dark";
    const light = of ? of.classList.contains("light") : localStorage.getItem("theme") === "light";
    if (dark || light) root.dataset.theme = dark ? "dark" : "light";
    else delete root.dataset.theme;
  };
  theme();
  if (outer) new MutationObserver(theme).observe(outer.document.documentElement, { attributeFilter: ["class"] });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow]");
    if (!link || !outer || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    outer.history.pushState({}, "", link.href);
    outer.dispatchEvent(new PopStateEvent("popstate"));
  });
})();
