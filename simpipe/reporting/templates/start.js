// Everything begins here; `data-ready` on the body says that the map can be used.

for (const button of document.querySelectorAll(".thumb")) prepare(button);
startTables();
startThresholds();
startPanel();
startNavigation();
startMap().then(() => {
  startMistakes();
  startExplorer();
  document.body.dataset.ready = "yes";
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
