/** What a log line or a message can bear of somebody else's words. @param longest characters */
export function foreignWords (said: string, longest = 300): string {
  return said.replaceAll(/[^ -~]+/g, ' ').trim().slice(0, longest)
}
