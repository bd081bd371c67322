// Widgets typeset their labels through MathJax 2; the pages have MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (window.MathJax) MathJax.Hub = {
    Queue: ([, , element]) => MathJax.startup.promise.then(() => MathJax.typesetPromise([element])),
  };
});

// A formula keeps the punctuation that follows it on its line.
document.addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll(".bd-article span.math")) {
    const after = formula.nextSibling;
    const mark = after?.nodeType === Node.TEXT_NODE && after.data.match(/^[,.;:)]+/);
    if (!mark) continue;
    after.splitText(mark[0].length);
    const whole = document.createElement("span");
    whole.style.whiteSpace = "nowrap";
    formula.before(whole);
    whole.append(formula, after);
  }
});

// Names, for those who do not see the page: the list of references, sliders, and the pictures that they choose.
document.addEventListener("DOMContentLoaded", () => {
  for (const entry of document.querySelectorAll(".citation-list > .citation")) entry.setAttribute("role", "listitem");
  const text = (element, part) => element.querySelector(part)?.textContent.trim() ?? "";
  const name = (output) => {
    const sliders = [...output.querySelectorAll(".widget-slider")];
    for (const slider of sliders) {
      slider.querySelector("[role=slider]")?.setAttribute("aria-label", text(slider, ".widget-label"));
    }
    const chosen = sliders.map((slider) => `${text(slider, ".widget-label")} ${text(slider, ".widget-readout")}`);
    for (const picture of output.querySelectorAll("img.widget-image")) picture.alt = `Figure at ${chosen.join(", ")}`;
  };
  for (const output of document.querySelectorAll(".cell_output")) {
    new MutationObserver(() => name(output)).observe(output, { childList: true, subtree: true });
  }
});

// The fields of a table, intervals among them, break over lines only where the table would not fit otherwise. A table
// that scrolls all the same can be reached, and so scrolled, by the keyboard. The width of the page may change by steps.
document.addEventListener("DOMContentLoaded", () => {
  const article = document.querySelector(".bd-article");
  const fit = () => {
    for (const table of article.querySelectorAll("table")) {
      table.classList.add("unbroken");
      table.classList.toggle("unbroken", table.scrollWidth <= table.clientWidth);
      table.toggleAttribute("tabindex", table.scrollWidth > table.clientWidth);
      if (table.hasAttribute("tabindex")) table.tabIndex = 0;
    }
  };
  if (article) new ResizeObserver(() => requestAnimationFrame(fit)).observe(article);
});
