// Everything begins here; `data-ready` on the body says that the map can be used.

for (const button of document.querySelectorAll(".thumb")) prepare(button);
startTables();
startThresholds();
startNavigation();
startMap().then(() => {
  startPanel();
  startMistakes();
  startMatrix();
  startExplorer();
  document.body.dataset.ready = "yes";
  setTimeout(loadSheets, 1000);
});
addEventListener("beforeprint", () => {
  for (const button of document.querySelectorAll(".thumb")) paintThumb(button);
  for (const details of document.querySelectorAll("details")) details.open = true;
});
