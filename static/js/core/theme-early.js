// Runs before the first paint, as a classic script, so that a stored theme does not flash. Not a module: modules run later.
document.documentElement.classList.add("js");
try {
  const kept = localStorage.getItem("dropmill-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // storage is disabled: the system's theme applies
}
