/** Tell of an error that is not ours to handle: of a callback, of a token function. Nobody else is kept from working by it. */
export function report(error) {
  if (globalThis.document && globalThis.reportError) reportError(error);
  else console.error(error); // Deno would end the program
}
