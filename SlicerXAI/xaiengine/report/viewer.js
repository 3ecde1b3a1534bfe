"use strict";
// The interactive planes of a report. Everything shown lies in this page; nothing is fetched.
(function () {
  var element = document.getElementById("scene");
  var box = document.getElementById("planes");
  if (!element || !box) return;
  var scene = JSON.parse(element.textContent);
  var say = function (text) { document.getElementById("planes-note").textContent = text; };
  var probe = document.createElement("canvas").getContext("webgl2");
  if (!probe) {
    box.classList.add("without");
    say("This browser has no WebGL2, which the interactive planes need. The pictures below show the same.");
    return;
  }
  var lose = probe.getExtension("WEBGL_lose_context");
  if (lose) lose.loseContext();
  var nv = new niivue.Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    backColor: [0.06, 0.06, 0.08, 1],
    crosshairColor: [0.21, 0.88, 0.82, 0.7],
    crosshairWidth: 0.6,
    crosshairWidthUnit: "mm",
    show3Dcrosshair: false,
    isColorbar: false,
    isOrientationTextVisible: scene.sides,
    showAllOrientationMarkers: true,
    dragMode: niivue.DRAG_MODE ? niivue.DRAG_MODE.contrast : 1,
    logLevel: "silent",
    loadingText: "",
    isSliceMM: false
  });
  var INSIDE = 0.01; // segments are drawn as their borders; the map shows inside
  var layers = { map: null, segments: null };
  var current = 0;

  function colormaps() {
    nv.addColormap("supporting", { R: [247, 214, 103], G: [230, 96, 0], B: [225, 77, 31], A: [0, 190, 255], I: [0, 128, 255] });
    nv.addColormap("opposing", { R: [225, 67, 5], G: [236, 147, 48], B: [247, 195, 97], A: [0, 190, 255], I: [0, 128, 255] });
  }

  function image(data, name, options) {
    return niivue.NVImage.loadFromBase64(Object.assign({ base64: data, name: name + ".nii.gz" }, options));
  }

  function showMap(number) {
    var map = scene.maps[number];
    current = number;
    return image(map.nifti, "map", {
      colormap: map.diverging ? "supporting" : "inferno",
      colormapNegative: map.diverging ? "opposing" : "",
      opacity: Number(opacity.value),
      cal_min: map.threshold,
      cal_max: map.end
    }).then(function (volume) {
      // Colors counted from 0, nothing below the threshold; NiiVue 0.69's planes swap the types 1 and 2.
      volume.colormapType = 2;
      if (layers.map) nv.removeVolume(layers.map);
      nv.addVolume(volume);
      layers.map = volume;
      limits();
      toTop();
    });
  }

  function limits() {
    var map = scene.maps[current];
    document.getElementById("key").className = "key " + (map.diverging ? "diverging" : "heat");
    document.getElementById("key-low").textContent = map.diverging ? "opposes " + short(-map.end) : "0";
    document.getElementById("key-high").textContent = short(map.end) + (map.diverging ? " supports" : "");
    threshold.min = 0;
    threshold.max = map.end;
    threshold.step = map.end / 200;
    threshold.value = map.threshold;
    applyThreshold();
  }

  function toTop() {
    if (layers.segments && layers.map) nv.setVolume(layers.segments, nv.volumes.length - 1);
  }

  function applyThreshold() {
    var map = scene.maps[current];
    var value = Number(threshold.value);
    layers.map.cal_min = value;
    if (map.diverging) {
      layers.map.cal_minNeg = -map.end;
      layers.map.cal_maxNeg = -value;
    }
    document.getElementById("threshold-value").textContent = short(value) + " " + map.unit;
    nv.updateGLVolume();
  }

  function short(value) { return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(2); }

  function side(value, letters) { return letters[value < 0 ? 1 : 0] + " " + Math.abs(value).toFixed(1); }

  function located(data) {
    var mm = data.mm;
    var text = scene.sides ? side(mm[0], "RL") + ", " + side(mm[1], "AP") + ", " + side(mm[2], "SI") + " mm" : "";
    (data.values || []).forEach(function (item, number) {
      if (number === 0) text += (text ? "; " : "") + ("scan " + short(item.value) + " " + scene.scan.unit).trim();
      else if (layers.map && nv.volumes[number] === layers.map) text += "; map " + short(item.value) + " " + scene.maps[current].unit;
      else if (layers.segments && nv.volumes[number] === layers.segments && item.value > 0)
        text += "; " + (scene.segments.names[Math.round(item.value) - 1] || "");
    });
    document.getElementById("planes-where").textContent = text;
  }

  function jump(place) {
    nv.scene.crosshairPos = nv.mm2frac(place);
    nv.createOnLocationChange();
    nv.drawScene();
    box.dataset.at = place.join(",");
  }

  var opacity = document.getElementById("opacity");
  var threshold = document.getElementById("threshold");
  var outlines = document.getElementById("outlines");
  var choice = document.getElementById("map-choice");
  var gray = document.getElementById("gray");

  // As high as the row of planes is, whatever the scan's shape.
  function height() {
    var size = scene.size, width = box.clientWidth || 900;
    var ratio = scene.flat ? size[1] / size[0] : Math.max(size[1], size[2]) / (2 * size[0] + size[1]);
    return Math.round(Math.min(640, Math.max(260, width * ratio + 24)));
  }

  function start() {
    document.querySelector("#planes .stage").style.height = height() + "px";
    return nv.attachToCanvas(document.getElementById("planes-canvas")).then(function () {
      colormaps();
      nv.onLocationChange = located;
      nv.setSliceType(scene.flat ? nv.sliceTypeAxial : nv.sliceTypeMultiplanar);
      if (niivue.SHOW_RENDER) nv.opts.multiplanarShowRender = niivue.SHOW_RENDER.NEVER;
      return image(scene.scan.nifti, "scan", { colormap: "gray", cal_min: scene.scan.window[0], cal_max: scene.scan.window[1] });
    }).then(function (volume) {
      nv.addVolume(volume);
      if (!scene.segments) return null;
      var count = scene.segments.names.length;
      var label = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
      for (var n = 0; n < count; n++) {
        label.R.push(scene.segments.colors[n][0]);
        label.G.push(scene.segments.colors[n][1]);
        label.B.push(scene.segments.colors[n][2]);
        label.A.push(255);
        label.I.push(n + 1);
        label.labels.push(scene.segments.names[n]);
      }
      return image(scene.segments.nifti, "segments", { opacity: INSIDE }).then(function (segments) {
        segments.setColormapLabel(label);
        nv.addVolume(segments);
        layers.segments = segments;
        nv.setAtlasOutline(1);
      });
    }).then(function () {
      return scene.maps.length ? showMap(0) : null;
    }).then(function () {
      jump(scene.start);
      box.dataset.ready = "yes";
    });
  }

  if (opacity) opacity.addEventListener("input", function () {
    if (layers.map) nv.setOpacity(nv.volumes.indexOf(layers.map), Number(opacity.value));
  });
  if (threshold) threshold.addEventListener("input", applyThreshold);
  if (choice) choice.addEventListener("change", function () { showMap(Number(choice.value)); });
  if (outlines) outlines.addEventListener("change", function () {
    nv.opts.atlasOutline = outlines.checked ? 1 : 0;
    nv.setOpacity(nv.volumes.indexOf(layers.segments), outlines.checked ? INSIDE : 0);
  });
  if (gray) gray.addEventListener("input", function () {
    var window_ = scene.scan.window, width = (window_[1] - window_[0]) * Number(gray.value);
    var middle = (window_[0] + window_[1]) / 2;
    nv.volumes[0].cal_min = middle - width / 2;
    nv.volumes[0].cal_max = middle + width / 2;
    nv.updateGLVolume();
  });
  document.querySelectorAll("[data-ras]").forEach(function (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      jump(button.dataset.ras.split(",").map(Number));
      box.scrollIntoView({ block: "nearest" });
    });
  });
  box.hidden = false; // before the size is taken
  start().catch(function (error) {
    box.classList.add("without");
    say("The interactive planes cannot be shown (" + error + "). The pictures below show the same.");
  });
})();
