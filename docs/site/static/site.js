// What scrolls inside itself can be reached by Tab, and nothing else is a stop on the way.
function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .output"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
}
addEventListener("load", reach);
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
// The two drawers of a narrow window open by keyboard, too: the theme has labels there.
for (const [icon, name] of [[".nav-overlay-icon", "All pages"], [".toc-overlay-icon", "On this page"]])
  for (const label of document.querySelectorAll(icon)) {
    Object.assign(label, { tabIndex: 0, role: "button", ariaLabel: name });
    label.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") event.preventDefault(), label.click();
    });
  }
