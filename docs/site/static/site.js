// What scrolls inside itself can be reached by Tab, and nothing else is a stop on the way.
function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .output"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
}
addEventListener("load", reach);
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
