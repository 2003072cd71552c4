import { execFileSync } from 'node:child_process'

/** Such as `go1.26.8`. */
export function goVersion (): string {
  try {
    return execFileSync('go', ['env', 'GOVERSION'], { encoding: 'utf8' }).trim()
  } catch {
    return 'no Go'
  }
}
