import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.security.cert.X509Certificate;
import java.util.Base64;
import java.util.Collections;
import java.util.HexFormat;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;

/** Java's view of keystores, for tests. Runs from source: {@code java Keystores.java <mode> ...}. */
public final class Keystores {
  public static void main(String[] args) throws Exception {
    switch (args[0]) {
      case "read" -> read(Path.of(args[1]));
      case "tls" -> tls(args[1], args[2], args[3], args[4]);
      default -> throw new IllegalArgumentException(args[0]);
    }
  }

  /** Each line of the file: type, password in base64, path. For each entry of the store a line: path, kind, alias, digests. */
  private static void read(Path manifest) throws Exception {
    for (String line : Files.readAllLines(manifest)) {
      String[] parts = line.split(" ");
      char[] password = new String(Base64.getDecoder().decode(parts[1])).toCharArray();
      KeyStore store = load(parts[0], parts[2], password);
      for (String alias : Collections.list(store.aliases())) {
        StringBuilder out = new StringBuilder(parts[2]);
        if (store.isKeyEntry(alias)) {
          out.append(" key ").append(alias).append(' ').append(digest(store.getKey(alias, password).getEncoded()));
          for (Certificate one : store.getCertificateChain(alias)) out.append(' ').append(digest(one.getEncoded()));
        } else {
          out.append(" trusted ").append(alias).append(' ').append(digest(store.getCertificate(alias).getEncoded()));
        }
        System.out.println(out);
      }
    }
  }

  /** A server and a client of the same stores, over mutual TLS 1.3; each says the other's URI. */
  private static void tls(String type, String password, String keystore, String truststore) throws Exception {
    KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    keys.init(load(type, keystore, password.toCharArray()), password.toCharArray());
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(load(type, truststore, password.toCharArray()));
    SSLContext context = SSLContext.getInstance("TLSv1.3");
    context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
    try (SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0)) {
      listener.setNeedClientAuth(true);
      CompletableFuture<Void> server = CompletableFuture.runAsync(() -> {
        try (SSLSocket socket = (SSLSocket) listener.accept()) {
          System.out.println("server sees " + uri(socket));
          socket.getOutputStream().write("hello".getBytes());
        } catch (Exception error) {
          throw new RuntimeException(error);
        }
      });
      try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", listener.getLocalPort())) {
        String answer = new String(socket.getInputStream().readAllBytes());
        System.out.println("client sees " + uri(socket) + ", answer " + answer);
      }
      server.join();
    }
  }

  private static String uri(SSLSocket socket) throws Exception {
    X509Certificate peer = (X509Certificate) socket.getSession().getPeerCertificates()[0];
    return peer.getSubjectAlternativeNames().stream().filter(name -> name.get(0).equals(6)).map(name -> (String) name.get(1)).findFirst().orElse("none");
  }

  private static KeyStore load(String type, String path, char[] password) throws Exception {
    KeyStore store = KeyStore.getInstance(type);
    try (FileInputStream in = new FileInputStream(path)) {
      store.load(in, password);
    }
    return store;
  }

  private static String digest(byte[] bytes) throws Exception {
    return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
  }
}
