// What scrolls inside itself can be reached by Tab, and nothing else is a stop on the way.
function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .output"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
}
addEventListener("load", reach);
addEventListener("resize", reach);
addEventListener("toggle", reach, true);
// The two drawers of a narrow window open by keyboard, too: where the theme has labels, a button.
for (const [icon, name] of [[".nav-overlay-icon", "All pages"], [".toc-overlay-icon", "On this page"]])
  for (const label of document.querySelectorAll(icon)) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "drawer", ariaLabel: name });
    button.append(...label.childNodes);
    button.addEventListener("click", () => document.getElementById(label.htmlFor).click());
    label.append(button);
  }
