import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;

import static java.nio.charset.StandardCharsets.UTF_8;

/** The WebSocket of java.net.http.HttpClient, which knows no compression. Usage: java Client ADDRESS */
class Client implements WebSocket.Listener {
    private final PrintStream output = new PrintStream(System.out, true, UTF_8);
    private final StringBuilder message = new StringBuilder();
    private final CompletableFuture<Void> closed = new CompletableFuture<>();

    public static void main(String[] arguments) throws Exception {
        Client client = new Client();
        WebSocket socket = HttpClient.newHttpClient().newWebSocketBuilder()
                .buildAsync(URI.create(arguments[0]), client).join();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        for (String line; (line = input.readLine()) != null; ) {
            socket.sendText(line, true).join();
        }
        if (!socket.isOutputClosed()) {
            socket.sendClose(WebSocket.NORMAL_CLOSURE, "").join();
        }
        client.closed.join();
    }

    @Override
    public void onOpen(WebSocket socket) {
        output.println("open");
        socket.request(1);
    }

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
        message.append(part);
        if (last) {
            output.println("message " + message);
            message.setLength(0);
        }
        // The next event, a ping too, comes and is answered only when it has been asked for.
        socket.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
        output.println("close " + code + " " + reason);
        closed.complete(null);
        return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
        if (socket.isOutputClosed()) {
            // It cannot answer a ping that comes behind its own close frame, and calls that an error.
            closed.complete(null);
        } else {
            closed.completeExceptionally(error);
        }
    }
}
