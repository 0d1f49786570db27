import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs one of Kafka's command line tools in this process, as its script would, and returns what it printed.
 * Saves a second of JVM start per call. A tool that would end the process is stopped where it asked to.
 */
final class Tools {
    /** Thrown where a tool asked to exit. Some tools catch even this and ask again: only the first time counts. */
    private static final class Exited extends Error {
        Exited() {
            super("the tool ended", null, false, false);
        }
    }

    static Map<String, ?> run(String name, String[] arguments, String input) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
        PrintStream outBefore = System.out, errBefore = System.err;
        InputStream inBefore = System.in;
        Integer[] code = {null};
        Exit.Procedure leave = (status, message) -> {
            if (code[0] == null) {
                code[0] = status;
                System.err.println(message == null ? "" : message);
            }
            throw new Exited();
        };
        Exit.setExitProcedure(leave);
        Exit.setHaltProcedure(leave);
        // Some tools send or print their last things in a hook; it runs when the tool ends, not this process.
        List<Runnable> hooks = new ArrayList<>();
        Exit.setShutdownHookAdder((hook, runnable) -> hooks.add(runnable));
        PrintStream outNow = new PrintStream(out, true, StandardCharsets.UTF_8), errNow = new PrintStream(err, true, StandardCharsets.UTF_8);
        System.setOut(outNow);
        System.setErr(errNow);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        try {
            // Scala's console keeps the stream it first saw.
            scala.Console.withOut(outNow, () -> scala.Console.withErr(errNow, () -> {
                boolean whole = call(name, arguments);
                hooks.forEach(Runnable::run);
                code[0] = code[0] == null ? (whole ? 0 : 1) : code[0];
                return null;
            }));
        } finally {
            System.setOut(outBefore);
            System.setErr(errBefore);
            System.setIn(inBefore);
        }
        return Map.of("code", code[0], "out", out.toString(StandardCharsets.UTF_8), "err", err.toString(StandardCharsets.UTF_8));
    }

    /** True when the tool's `main` came to its end or asked to exit. */
    private static boolean call(String name, String[] arguments) {
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return true;
        } catch (InvocationTargetException thrown) {
            if (!(thrown.getCause() instanceof Exited)) {
                thrown.getCause().printStackTrace();
            }
            return thrown.getCause() instanceof Exited;
        } catch (ReflectiveOperationException missing) {
            throw new IllegalArgumentException(name + " is no tool", missing);
        }
    }
}
