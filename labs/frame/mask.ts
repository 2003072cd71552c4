/** What differs from run to run and from machine to machine, and what stands for it; the order matters. */
const rules: readonly (readonly [RegExp, string])[] = [
  [/(Chores +: \S+) \(\S+\)/g, '$1 (<host>)'],
  [/[^\s"'=]*assay-demo-\d+-\w+/g, '<folder>'],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, '<token>'],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?(?:Z|[+-]\d\d:?\d\d))?(?: UTC)?/g, '<time>'],
  [/\b[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d \d{4} GMT/g, '<time>'],
  [/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '<id>'],
  [/\b(?:[0-9a-f]{2}:){7,}[0-9a-f]{2}\b/gi, '<hex>'],
  [/\b(?:[0-9a-f]{16,}|[0-9a-f]{8})\b/gi, '<hex>'],
  [/\b[\w-]{43,}\b/g, '<base64>'],
  [/\b\d{9,}\b/g, '<number>'],
  [/(?<![\w.])(?:\d+(?:\.\d+)?(?:ms|µs|h|m|s))+(?!\w)/g, '<duration>'],
  [/\b(pid|uid|gid)([:= ]+)\d+/g, '$1$2<number>'],
  [/(_PID=|\/proc\/)\d+/g, '$1<number>'],
  [/([:=] ?)\d{4,5}\b/g, '$1<port>'],
  // Names of certificates: some versions of openssl put blanks around the sign, others do not.
  [/\b(C|O|CN|serialNumber) = /g, '$1='],
  [/[ \t]+/g, ' ']
]

/** @returns the line as it is in every run */
export function maskLine (line: string): string {
  return rules.reduce((text, [pattern, substitute]) => text.replaceAll(pattern, substitute), line).trimEnd()
}

/** @returns the line for a page, which does not tell where it was made */
export function anonymiseLine (line: string, folder: string): string {
  const another = '/tmp/assay-demo-1-lab'
  return line.replaceAll(folder, another).replaceAll(encodeURIComponent(folder), encodeURIComponent(another))
    .replace(/(Chores +: \S+) \(\S+\)/, '$1 (lab-host)')
}
