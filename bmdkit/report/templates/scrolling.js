"use strict";
// What has to be scrolled sideways can be reached with the keyboard.
(function () {
  const reach = () => {
    document.querySelectorAll("section table, .scroll").forEach((part) => {
      if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
      else part.removeAttribute("tabindex");
    });
  };
  window.addEventListener("resize", reach);
  reach();
})();
