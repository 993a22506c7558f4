import * as ort from "onnxruntime-web";

const names = <NAMES>;
const mean = [<MEAN>];
const std = [<STD>];
const session = await ort.InferenceSession.create("<PATH>");

// The middle of an image, a canvas or a video frame, as in training: what classify takes.
export function pixelsOf(picture) {
  const full = [picture.naturalWidth ?? picture.width, picture.naturalHeight ?? picture.height];
  const scale = <SHOWN> * Math.min(full[0] / <WIDTH>, full[1] / <HEIGHT>);
  const [width, height] = [scale * <WIDTH>, scale * <HEIGHT>];
  const [left, top] = [(full[0] - width) / 2, (full[1] - height) / 2];
  const context = new OffscreenCanvas(<WIDTH>, <HEIGHT>).getContext("2d");
  context.drawImage(picture, left, top, width, height, 0, 0, <WIDTH>, <HEIGHT>);
  return context.getImageData(0, 0, <WIDTH>, <HEIGHT>).data;
}

// pixels: red, green, blue and alpha of each pixel of a picture of <WIDTH> x <HEIGHT>
export async function classify(pixels) {
  const input = [];
  for (let start = 0; start < pixels.length; start += 4) {
    const [red, green, blue] = pixels.slice(start, start + 3);
    <PIXEL>
  }
  const shape = [1, <HEIGHT>, <WIDTH>, <CHANNELS>];
  const images = new ort.Tensor("float32", Float32Array.from(input), shape);
  const { logits } = await session.run({ images });
  return names[logits.data.indexOf(Math.max(...logits.data))];
}
