import type { FactName } from '../policy/facts.ts'
import type { Match } from '../policy/match.ts'
import { regularHost, regularPath } from '../policy/request-path.ts'
import { isOver } from './window-relations.ts'

/**
 * Why no value that the engine ever sees can match; `undefined`: one may. What the engine sees of paths and hosts is not what came:
 * `request-path.ts`.
 * @param now from which on a window counts
 */
export function whyImpossible (fact: FactName, match: Match, now: Date): string | undefined {
  switch (fact) {
    case 'path': return whyNoPath(match)
    case 'host': return whyNoHost(match)
    case 'time': {
      const over = match.kind === 'window' ? isOver(match.window.spec, now) : undefined
      return over === 'never' ? 'no time is in it' : over === 'past' ? 'it is over' : undefined
    }
    default: return undefined
  }
}

const irregular = 'no path is looked at in this form: such requests meet no rule that allows a path'

function whyNoPath (match: Match): string | undefined {
  switch (match.kind) {
    case 'exact': return isRegular(match.value) ? undefined : `${irregular}${hint(match.value)}`
    // What a prefix ends with may go on to something regular: half an escape, or a dot that begins a name.
    case 'prefix': return isRegular(match.value.replace(/%[0-9A-Fa-f]?$/, '').replace(/\/\.{1,2}$/, '/')) ? undefined : irregular
    case 'suffix': return isRegular(`/a${match.value}`) ? undefined : irregular
    case 'template': return isRegular(match.template.text.replaceAll(/\{\*{1,2}\}/g, 'a')) ? undefined : irregular
    default: return undefined
  }
}

function isRegular (path: string): boolean { return path === '' || regularPath(path) === path }

function hint (path: string): string {
  const regular = regularPath(path)
  return regular === undefined ? '' : `; write ${regular}`
}

const noHost = 'hosts are looked at without port and final dot'

function whyNoHost (match: Match): string | undefined {
  switch (match.kind) {
    case 'exact': return regularHost(match.value) === match.value ? undefined : `${noHost}; write ${regularHost(match.value)}`
    case 'suffix': return regularHost(`a${match.value}`) === `a${match.value}` ? undefined : noHost
    default: return undefined
  }
}
