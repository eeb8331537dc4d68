// The light/dark button. Choosing the system's own theme clears the stored choice, so the page follows the system again.

const KEY = "dropmill-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light" | "dark"} what the page shows now */
function shown() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return system.matches ? "dark" : "light";
}

/** @param {HTMLButtonElement} button */
export function mountThemeButton(button) {
  const label = () => button.setAttribute("aria-pressed", String(shown() === "dark"));
  button.addEventListener("click", () => {
    const next = shown() === "dark" ? "light" : "dark";
    const isSystems = (next === "dark") === system.matches;
    try {
      if (isSystems) localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, next);
    } catch {
      // storage is disabled: the choice lasts as long as the page
    }
    if (isSystems) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    label();
  });
  system.addEventListener("change", label);
  label();
}
