package dev.signet.test;

import io.spiffe.bundle.jwtbundle.JwtBundle;
import io.spiffe.bundle.x509bundle.X509Bundle;
import io.spiffe.spiffeid.TrustDomain;
import io.spiffe.svid.jwtsvid.JwtSvid;
import io.spiffe.svid.x509svid.X509Svid;
import io.spiffe.svid.x509svid.X509SvidValidator;
import io.spiffe.workloadapi.DefaultJwtSource;
import io.spiffe.workloadapi.DefaultWorkloadApiClient;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.JwtSourceOptions;
import io.spiffe.workloadapi.Watcher;
import io.spiffe.workloadapi.WorkloadApiClient;
import io.spiffe.workloadapi.X509Context;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;

/**
 * A SPIFFE workload built on java-spiffe, for tests: {@code JavaClient SOCKET x509|watch|bundles|jwt AUDIENCE}. Every
 * answer is one line of JSON on stdout. Its transport, gRPC over Netty, sends the socket's path as {@code :authority}.
 */
public final class JavaClient {
  private static final Duration TIMEOUT = Duration.ofSeconds(20);

  private JavaClient() {}

  public static void main(String[] args) {
    if (args.length < 2) {
      System.err.println("usage: JavaClient SOCKET x509|watch|bundles|jwt AUDIENCE");
      System.exit(2);
    }
    String address = "unix:" + args[0];
    try {
      switch (args[1]) {
        case "x509" -> x509(address);
        case "watch" -> watch(address);
        case "bundles" -> bundles(address);
        case "jwt" -> jwt(address, args[2]);
        default -> throw new IllegalArgumentException("no command " + args[1]);
      }
      System.exit(0); // Netty's threads would keep the process
    } catch (Exception e) {
      StringBuilder message = new StringBuilder();
      for (Throwable cause = e; cause != null; cause = cause.getCause()) {
        message.append(message.isEmpty() ? "" : ": ").append(cause);
      }
      emit(Map.of("error", message.toString()));
      System.exit(1);
    }
  }

  private static WorkloadApiClient client(String address) throws Exception {
    return DefaultWorkloadApiClient.newClient(
        DefaultWorkloadApiClient.ClientOptions.builder().spiffeSocketPath(address).build());
  }

  private static void x509(String address) throws Exception {
    var options =
        DefaultX509Source.X509SourceOptions.builder().spiffeSocketPath(address).initTimeout(TIMEOUT).build();
    try (var source = DefaultX509Source.newSource(options)) {
      X509Svid svid = source.getX509Svid();
      X509SvidValidator.verifyChain(svid.getChain(), source); // throws when the chain does not verify
      Map<String, Object> line = describe(svid);
      line.put("verified", true);
      line.put("authorities", source.getBundleForTrustDomain(trustDomain(svid)).getX509Authorities().size());
      emit(line);
    }
  }

  private static void watch(String address) throws Exception {
    CountDownLatch never = new CountDownLatch(1);
    try (WorkloadApiClient client = client(address)) {
      client.watchX509Context(
          new Watcher<X509Context>() {
            @Override
            public void onUpdate(X509Context context) {
              List<Object> svids = new ArrayList<>();
              context.getX509Svids().forEach(svid -> svids.add(describe(svid)));
              emit(Map.of("svids", svids));
            }

            @Override
            public void onError(Throwable error) {
              emit(Map.of("watchError", String.valueOf(error)));
            }
          });
      never.await();
    }
  }

  private static void bundles(String address) throws Exception {
    try (WorkloadApiClient client = client(address)) {
      Map<String, Object> x509 = new TreeMap<>();
      for (X509Bundle bundle : client.fetchX509Bundles().getBundles().values()) {
        x509.put(bundle.getTrustDomain().getName(), bundle.getX509Authorities().size());
      }
      Map<String, Object> jwt = new TreeMap<>();
      for (JwtBundle bundle : client.fetchJwtBundles().getBundles().values()) {
        jwt.put(bundle.getTrustDomain().getName(), new ArrayList<Object>(bundle.getJwtAuthorities().keySet()));
      }
      emit(Map.of("x509", x509, "jwt", jwt));
    }
  }

  private static void jwt(String address, String audience) throws Exception {
    var options = JwtSourceOptions.builder().spiffeSocketPath(address).initTimeout(TIMEOUT).build();
    try (var source = DefaultJwtSource.newSource(options);
        WorkloadApiClient client = client(address)) {
      JwtSvid svid = source.fetchJwtSvid(audience);
      // Its own check against the bundle, then the Workload API's.
      JwtSvid.parseAndValidate(svid.getToken(), source, java.util.Set.of(audience));
      JwtSvid remote = client.validateJwtSvid(svid.getToken(), audience);
      Map<String, Object> line = new TreeMap<>();
      line.put("id", svid.getSpiffeId().toString());
      line.put("validatedId", remote.getSpiffeId().toString());
      line.put("audience", new ArrayList<Object>(svid.getAudience()));
      line.put("hint", svid.getHint());
      line.put("expiry", svid.getExpiry().getTime());
      emit(line);
    }
  }

  private static TrustDomain trustDomain(X509Svid svid) {
    return svid.getSpiffeId().getTrustDomain();
  }

  private static Map<String, Object> describe(X509Svid svid) {
    Map<String, Object> line = new TreeMap<>();
    line.put("id", svid.getSpiffeId().toString());
    line.put("serial", svid.getLeaf().getSerialNumber().toString(16));
    line.put("notAfter", svid.getLeaf().getNotAfter().getTime());
    line.put("hint", svid.getHint());
    return line;
  }

  private static synchronized void emit(Map<String, ?> line) {
    System.out.println(json(line));
    System.out.flush();
  }

  private static String json(Object value) {
    if (value == null || value instanceof Boolean || value instanceof Number) {
      return String.valueOf(value);
    }
    if (value instanceof Map<?, ?> map) {
      List<String> fields = new ArrayList<>();
      map.forEach((key, field) -> fields.add(quote(String.valueOf(key)) + ":" + json(field)));
      return "{" + String.join(",", fields) + "}";
    }
    if (value instanceof List<?> list) {
      return "[" + String.join(",", list.stream().map(JavaClient::json).toList()) + "]";
    }
    return quote(String.valueOf(value));
  }

  private static String quote(String text) {
    StringBuilder out = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c < 0x20) {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    return out.append('"').toString();
  }
}
