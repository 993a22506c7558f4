// Podfile: pod "TensorFlowLiteSwift"; <PATH> is a resource of the app
import CoreGraphics
import Foundation
import TensorFlowLite

final class Classifier {
    private let names = <NAMES>
    private let mean: [Float] = [<MEAN>]
    private let std: [Float] = [<STD>]
    private let interpreter: Interpreter

    init() throws {
        let path = Bundle.main.path(forResource: "<STEM>", ofType: "tflite")!
        var options = Interpreter.Options()
        options.threadCount = 2
        interpreter = try Interpreter(modelPath: path, options: options)
        try interpreter.allocateTensors()
    }

    func classify(_ image: CGImage) throws -> String {
        var pixels = [UInt8](repeating: 0, count: 4 * <WIDTH> * <HEIGHT>)
        let context = CGContext(
            data: &pixels, width: <WIDTH>, height: <HEIGHT>, bitsPerComponent: 8,
            bytesPerRow: 4 * <WIDTH>, space: CGColorSpaceCreateDeviceRGB(),
            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
        // The middle of the picture, as in training.
        let (fullWidth, fullHeight) = (Double(image.width), Double(image.height))
        let scale = <SHOWN> * min(fullWidth / <WIDTH>, fullHeight / <HEIGHT>)
        let (width, height) = (scale * <WIDTH>, scale * <HEIGHT>)
        let middle = CGRect(
            x: (fullWidth - width) / 2, y: (fullHeight - height) / 2, width: width, height: height)
        let seen = image.cropping(to: middle)!
        context.draw(seen, in: CGRect(x: 0, y: 0, width: <WIDTH>, height: <HEIGHT>))
        var input = [Float]()
        for start in stride(from: 0, to: pixels.count, by: 4) {
            let red = Float(pixels[start])
            let green = Float(pixels[start + 1])
            let blue = Float(pixels[start + 2])
            <PIXEL>
        }
        try interpreter.copy(input.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
        try interpreter.invoke()
        let data = try interpreter.output(at: 0).data
        let logits = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return names[logits.indices.max { logits[$0] < logits[$1] }!]
    }
}
