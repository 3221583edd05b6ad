// Light, dark, or as the system has it. Runs before the page is drawn, so that it never flashes in the other theme.
(() => {
  const KEY = "spillway-theme";
  const root = document.documentElement;

  function stored() {
    try {
      return localStorage.getItem(KEY) ?? "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  }

  function apply(theme) {
    const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "dark" : "light";
    root.dispatchEvent(new CustomEvent("themechange"));
  }

  apply(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(stored()));
  document.addEventListener("DOMContentLoaded", () => {
    const chooser = document.getElementById("theme");
    chooser.value = ["light", "dark"].includes(stored()) ? stored() : "auto";
    chooser.addEventListener("change", () => {
      try {
        localStorage.setItem(KEY, chooser.value);
      } catch {
        // it then lasts as long as the page
      }
      apply(chooser.value);
    });
  });
})();
