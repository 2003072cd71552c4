/** @returns `undefined` for a line that is no JSON object; a process that crashes writes such lines too */
export function readJsonLine (line: string): Readonly<Record<string, unknown>> | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return JSON.parse(line) as Record<string, unknown>
  } catch {
    return undefined
  }
}
