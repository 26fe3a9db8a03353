/** What an image, sound or file part is counted as when its tokens are estimated. */
const mediaTokens = 258;

/**
 * Input tokens of a request, estimated before it is sent: four bytes of JSON a token, which errs on the high side for text.
 * Inline media count as a fixed number each, not by their base64 length.
 */
export function estimateTokens(body: string): number {
  if (!body.includes('"inlineData"') && !body.includes('"inline_data"')) return Math.ceil(body.length / 4);
  let media = 0;
  const text = body.replaceAll(/"data"\s*:\s*"[A-Za-z0-9+/=_-]*"/g, () => {
    media += 1;
    return '""';
  });
  return Math.ceil(text.length / 4) + media * mediaTokens;
}
