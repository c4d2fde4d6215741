// Shows this folder's map and regions on the open slide. For QuPath 0.4 and newer.
import java.awt.image.BufferedImage
import javafx.application.Platform
import qupath.lib.gui.viewer.overlays.BufferedImageOverlay
import qupath.lib.images.servers.ImageServers
import qupath.lib.io.PathIO
import qupath.lib.regions.ImageRegion
import qupath.lib.scripting.ScriptAttributes

double side = $side  // of a pixel of the map, in pixels of the slide
double high = $high  // the value that is brightest
int largest = 4096  // pixels along the longer side of the overlay, at most

def folder = new File(getProperty(ScriptAttributes.FILE_PATH)).getParentFile()
def slide = getCurrentServer()
def map = ImageServers.buildServer(new File(folder, "$overlay").toURI())
double columns = map.getWidth(), rows = map.getHeight()
if (slide == null || Math.abs(slide.getWidth() - columns * side) > side || Math.abs(slide.getHeight() - rows * side) > side)
    throw new IllegalStateException("open the slide first of which this map is: " + $slide)

int level = 0
while (level < map.nResolutions() - 1 && Math.max(columns, rows) / map.getDownsampleForResolution(level) > largest)
    level++
def values = map.readRegion(map.getDownsampleForResolution(level), 0, 0, map.getWidth(), map.getHeight())
def raster = values.getRaster()
def picture = new BufferedImage(values.getWidth(), values.getHeight(), BufferedImage.TYPE_INT_ARGB)
for (int y = 0; y < values.getHeight(); y++) {
    for (int x = 0; x < values.getWidth(); x++) {
        float value = raster.getSampleFloat(x, y, 0)
        if (Float.isNaN(value))
            continue  // no tissue: transparent
        int heat = (int) Math.round(Math.min(Math.max(value / high, 0.0d), 1.0d) * 765)  // black, red, yellow, white
        int red = Math.min(heat, 255), green = Math.min(Math.max(heat - 255, 0), 255), blue = Math.max(heat - 510, 0)
        picture.setRGB(x, y, (255 << 24) | (red << 16) | (green << 8) | blue)
    }
}

def regions = PathIO.readObjects(new File(folder, "$regions"))
def known = regions.collect { it.getID() } as Set
removeObjects(getAnnotationObjects().findAll { it.getID() in known }, true)  // of an earlier run of this script
addObjects(regions)

def viewer = getCurrentViewer()
def area = ImageRegion.createInstance(0, 0, (int) Math.round(columns * side), (int) Math.round(rows * side), 0, 0)
Platform.runLater {
    viewer.getOverlayOptions().setShowPixelClassification(true)
    viewer.getCustomOverlayLayers().setAll(new BufferedImageOverlay(viewer, [(area): picture]))
}
println "Map and " + regions.size() + " regions shown. The slider of the toolbar sets the opacity."
