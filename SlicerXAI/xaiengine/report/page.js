"use strict";
// Paper shows what is folded on the screen.
window.addEventListener("beforeprint", function () {
  document.querySelectorAll("details").forEach(function (part) {
    part.dataset.was = part.open ? "open" : "";
    part.open = true;
  });
});
window.addEventListener("afterprint", function () {
  document.querySelectorAll("details").forEach(function (part) { part.open = part.dataset.was === "open"; });
});
