// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:1.4.0")
// <PATH> lies in the app's assets.
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.roundToInt
import org.tensorflow.lite.Interpreter

class Classifier(context: Context) {
    private val names = <NAMES>
    private val mean = floatArrayOf(<MEANF>)
    private val std = floatArrayOf(<STDF>)
    private val interpreter = context.assets.openFd("<PATH>").use { file ->
        val channel = FileInputStream(file.fileDescriptor).channel
        val mode = FileChannel.MapMode.READ_ONLY
        val mapped = channel.map(mode, file.startOffset, file.declaredLength)
        Interpreter(mapped, Interpreter.Options().setNumThreads(2))
    }

    fun classify(image: Bitmap): String {
        // The middle of the picture, as in training. Load a camera's large pictures smaller:
        // BitmapFactory.Options.inSampleSize.
        val scale = <SHOWN>f * minOf(image.width / <WIDTH>f, image.height / <HEIGHT>f)
        val width = (scale * <WIDTH>).roundToInt().coerceAtLeast(1)
        val height = (scale * <HEIGHT>).roundToInt().coerceAtLeast(1)
        val left = (image.width - width) / 2
        val middle = Bitmap.createBitmap(image, left, (image.height - height) / 2, width, height)
        val scaled = Bitmap.createScaledBitmap(middle, <WIDTH>, <HEIGHT>, true)
        val pixels = IntArray(<WIDTH> * <HEIGHT>)
        scaled.getPixels(pixels, 0, <WIDTH>, 0, 0, <WIDTH>, <HEIGHT>)
        val input = ByteBuffer.allocateDirect(4 * <WIDTH> * <HEIGHT> * <CHANNELS>)
        input.order(ByteOrder.nativeOrder())
        for (pixel in pixels) {
            val red = pixel shr 16 and 0xFF
            val green = pixel shr 8 and 0xFF
            val blue = pixel and 0xFF
            <PIXEL>
        }
        input.rewind()
        val logits = Array(1) { FloatArray(<COUNT>) }
        interpreter.run(input, logits)
        return names[logits[0].indices.maxByOrNull { logits[0][it] }!!]
    }
}
