/**
 * Turns a line of JSON into one of logfmt, as SPIRE writes it: `time=… level=info msg="agent is serving" socket=/run/agent.sock`.
 * Maps inside are flattened (`caller.uid=0`); what is no plain word is quoted as in JSON, so that a value cannot make a line of its own.
 */
export function formatTextLine (line: string): string {
  const { time, level, msg, ...facts } = JSON.parse(line) as Record<string, unknown>
  return `${pairsOf({ time, level, msg, ...facts }).map(([name, value]) => `${name}=${quote(value)}`).join(' ')}\n`
}

function pairsOf (facts: Readonly<Record<string, unknown>>, prefix = ''): [string, unknown][] {
  return Object.entries(facts).flatMap(([key, value]): [string, unknown][] => {
    const name = prefix + key.replaceAll(/[^\w.-]/g, '_')
    if (value === undefined) return []
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? pairsOf(value as Record<string, unknown>, `${name}.`)
      : [[name, value]]
  })
}

function quote (value: unknown): string {
  return typeof value === 'string' && /^[\w.:/@+-]+$/.test(value) ? value : JSON.stringify(value)
}
