// Runs before the first paint, as a classic script, so that a kept theme does not flash. No module: those run later.
document.documentElement.classList.add("js");
try {
  const kept = localStorage.getItem("dropmill-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {
  // storage is switched off: the theme of the system it is
}
