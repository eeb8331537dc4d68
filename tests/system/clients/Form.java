// Sends the files named on standard input (one a line, UTF-8 in hexadecimal) as one form: `java Form.java URL WAY`.
// Java has no writer of forms; this one escapes as HTML says. WAY is HttpURLConnection (in chunks) or HttpClient.

import java.io.ByteArrayOutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Scanner;

public class Form {
    public static void main(String[] words) throws Exception {
        String boundary = "JavaFormBoundary7f3a";
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            String name = new String(HexFormat.of().parseHex(lines.nextLine()), StandardCharsets.UTF_8);
            name = name.replace("\r", "%0D").replace("\n", "%0A").replace("\"", "%22");
            String head = "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name
                + "\"\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n";
            body.write(head.getBytes(StandardCharsets.UTF_8));
        }
        body.write(("--" + boundary + "--\r\n").getBytes(StandardCharsets.UTF_8));
        URI address = URI.create(words[0] + "/api/v1/submissions");
        String type = "multipart/form-data; boundary=" + boundary;
        if (words[1].equals("HttpURLConnection")) {
            HttpURLConnection connection = (HttpURLConnection) address.toURL().openConnection();
            connection.setRequestMethod("POST");
            connection.setDoOutput(true);
            connection.setChunkedStreamingMode(0);
            connection.setRequestProperty("Content-Type", type);
            connection.setRequestProperty("Accept", "application/json");
            connection.getOutputStream().write(body.toByteArray());
            System.out.println(new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8));
        } else {
            HttpRequest request = HttpRequest.newBuilder(address).header("Content-Type", type)
                .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray())).build();
            HttpResponse<String> answer =
                HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.body());
        }
    }
}
