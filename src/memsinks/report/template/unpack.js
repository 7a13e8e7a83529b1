(function () {
  "use strict";
  const packed = atob(document.getElementById("packed-plotly").textContent);
  const bytes = Uint8Array.from(packed, function (character) { return character.charCodeAt(0); });

  function failed(error) {
    document.getElementById("no-plots").hidden = false;
    document.querySelectorAll(".plot").forEach(function (plot) { plot.hidden = true; });
    console.error(error);
  }

  if (typeof DecompressionStream === "undefined") {
    failed("no DecompressionStream");
    return;
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(stream).text().then(function (source) {
    const script = document.createElement("script");
    script.textContent = source;
    document.head.append(script);
    drawPlots();
  }).catch(failed);
})();
