import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.util.Map;
import java.util.TreeMap;
import org.apache.pdfbox.cos.COSName;
import org.apache.pdfbox.pdmodel.PDDocument;
import org.apache.pdfbox.pdmodel.PDDocumentCatalog;
import org.apache.pdfbox.pdmodel.PDEmbeddedFilesNameTreeNode;
import org.apache.pdfbox.pdmodel.common.filespecification.PDComplexFileSpecification;
import org.apache.pdfbox.pdmodel.encryption.AccessPermission;
import org.apache.pdfbox.pdmodel.encryption.PublicKeyProtectionPolicy;
import org.apache.pdfbox.pdmodel.encryption.PublicKeyRecipient;
import org.apache.pdfbox.pdmodel.interactive.documentnavigation.outline.PDOutlineItem;
import org.apache.pdfbox.text.PDFTextStripper;

/**
 * What Apache PDFBox finds in documents: one line a document on stdout, `key=value` with tabs between, or `error=…`. Commands come on stdin, one a line, words
 * with tabs between: `look FILE [P12 PASSWORD]`, `encrypt IN OUT CERT KEYLENGTH`.
 */
public class Judge {
  public static void main(String[] arguments) throws Exception {
    java.security.Security.addProvider(new org.bouncycastle.jce.provider.BouncyCastleProvider());
    java.util.logging.LogManager.getLogManager().reset();
    var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] words = line.split("\t");
      String answer;
      try {
        answer = words[0].equals("look") ? look(words) : encrypt(words);
      } catch (Throwable error) {
        answer = "error=" + clean(error.getClass().getSimpleName() + ": " + error.getMessage());
      }
      System.out.println(answer);
      System.out.flush();
    }
  }

  static String encrypt(String[] words) throws Exception {
    try (PDDocument document = PDDocument.load(new File(words[1])); InputStream in = new FileInputStream(words[3])) {
      PublicKeyRecipient recipient = new PublicKeyRecipient();
      recipient.setX509((X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(in));
      recipient.setPermission(AccessPermission.getOwnerAccessPermission());
      PublicKeyProtectionPolicy policy = new PublicKeyProtectionPolicy();
      policy.addRecipient(recipient);
      policy.setEncryptionKeyLength(Integer.parseInt(words[4]));
      policy.setPreferAES(words.length < 6);
      document.protect(policy);
      document.save(words[2]);
      return "saved=true";
    }
  }

  static String look(String[] words) throws Exception {
    InputStream store = words.length > 2 ? new FileInputStream(words[2]) : null;
    File file = new File(words[1]);
    try (PDDocument document = store == null ? PDDocument.load(file) : PDDocument.load(file, words[3], store, null)) {
      TreeMap<String, String> found = new TreeMap<>();
      found.put("encrypted", String.valueOf(document.isEncrypted()));
      AccessPermission access = document.getCurrentAccessPermission();
      found.put("permissions", (access.isOwnerPermission() ? "owner " : "") + (access.canPrint() ? "print " : "") + (access.canModify() ? "change " : "")
        + (access.canExtractContent() ? "copy " : "") + (access.canModifyAnnotations() ? "annotate " : "") + (access.canFillInForm() ? "fill " : "")
        + (access.canAssembleDocument() ? "assemble " : ""));
      document.setAllSecurityToBeRemoved(true);
      found.put("pages", String.valueOf(document.getNumberOfPages()));
      found.put("text", hash(new PDFTextStripper().getText(document).getBytes(StandardCharsets.UTF_8)));
      StringBuilder info = new StringBuilder();
      for (String key : new java.util.TreeSet<>(document.getDocumentInformation().getMetadataKeys()))
        info.append(key).append(':').append(document.getDocumentInformation().getPropertyStringValue(key)).append(';');
      found.put("info", info.toString());
      PDDocumentCatalog catalog = document.getDocumentCatalog();
      if (catalog.getMetadata() != null) found.put("xmp", hash(catalog.getMetadata().toByteArray()));
      found.put("attachments", attachments(catalog));
      found.put("outlines", catalog.getDocumentOutline() == null ? "" : hash(outlines(catalog.getDocumentOutline().getFirstChild(), 0).getBytes(StandardCharsets.UTF_8)));
      found.put("labels", catalog.getPageLabels() == null ? "" : hash(String.join(",", catalog.getPageLabels().getLabelsByPageIndices()).getBytes(StandardCharsets.UTF_8)));
      found.put("structure", String.valueOf(catalog.getStructureTreeRoot() != null));
      if (catalog.getAcroForm() != null) {
        StringBuilder fields = new StringBuilder();
        catalog.getAcroForm().getFieldTree().forEach((field) -> fields.append(field.getFullyQualifiedName()).append('=').append(field.getValueAsString()).append(';'));
        found.put("fields", hash(fields.toString().getBytes(StandardCharsets.UTF_8)));
      }
      StringBuilder fonts = new StringBuilder();
      int looked = 0;
      for (var page : document.getPages()) {
        if (looked++ == 20) break;
        if (page.getResources() == null) continue;
        for (COSName name : page.getResources().getFontNames()) {
          var font = page.getResources().getFont(name);
          var descriptor = font == null ? null : font.getFontDescriptor();
          fonts.append(font == null ? "?" : font.getName());
          if (descriptor != null && descriptor.getFontFile3() != null) fonts.append(hash(descriptor.getFontFile3().toByteArray()));
          else if (descriptor != null && descriptor.getFontFile() != null) fonts.append(hash(descriptor.getFontFile().toByteArray()));
          else if (descriptor != null && descriptor.getFontFile2() != null) fonts.append(hash(descriptor.getFontFile2().toByteArray()));
        }
      }
      found.put("fonts", hash(fonts.toString().getBytes(StandardCharsets.UTF_8)));
      StringBuilder line = new StringBuilder();
      for (Map.Entry<String, String> entry : found.entrySet()) line.append(line.length() == 0 ? "" : "\t").append(entry.getKey()).append('=').append(clean(entry.getValue()));
      return line.toString();
    }
  }

  static String attachments(PDDocumentCatalog catalog) throws Exception {
    if (catalog.getNames() == null || catalog.getNames().getEmbeddedFiles() == null) return "";
    PDEmbeddedFilesNameTreeNode tree = catalog.getNames().getEmbeddedFiles();
    StringBuilder found = new StringBuilder();
    if (tree.getNames() != null)
      for (Map.Entry<String, PDComplexFileSpecification> entry : tree.getNames().entrySet())
        found.append(entry.getKey()).append(':').append(entry.getValue().getEmbeddedFile() == null ? "none" : hash(entry.getValue().getEmbeddedFile().toByteArray())).append(';');
    return found.toString();
  }

  static String outlines(PDOutlineItem first, int depth) {
    StringBuilder text = new StringBuilder();
    int count = 0;
    for (PDOutlineItem item = first; item != null && count < 10_000; item = item.getNextSibling(), count++) {
      text.append(depth).append(item.getTitle()).append('\n');
      if (depth < 20) text.append(outlines(item.getFirstChild(), depth + 1));
    }
    return text.toString();
  }

  static String clean(String text) {
    return text.replaceAll("[\\t\\n\\r]", " ");
  }

  static String hash(byte[] bytes) throws Exception {
    StringBuilder text = new StringBuilder();
    for (byte octet : MessageDigest.getInstance("SHA-256").digest(bytes)) text.append(String.format("%02x", octet));
    return text.substring(0, 20);
  }
}
