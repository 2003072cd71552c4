import t from 'tap'
import { ChangeHistory } from '../../../src/server/replication/change-history.ts'
import type { Touched } from '../../../src/server/touches.ts'
import type { SpiffeId } from '../../../src/spiffe/spiffe-id.ts'
import { idOf } from '../../fakes/entries.ts'

const [a, b] = ['/spire/agent/x/a', '/spire/agent/x/b'].map(idOf) as [SpiffeId, SpiffeId]
const at = (number: number, epoch = 'e') => ({ epoch, number })
const touches = (...of: Array<[SpiffeId, 'all' | string[]]>) =>
  new Map(of.map(([agent, touch]): [SpiffeId, Touched] => [agent, touch === 'all' ? touch : new Set(touch)]))

function since (history: ChangeHistory, number: number, agent: SpiffeId): readonly string[] | string | undefined {
  const touched = history.since(at(number), agent)
  return touched === undefined || touched === 'all' ? touched : [...touched].toSorted()
}

void t.test('who comes back hears of what touched it since, of nothing else', async t => {
  const history = new ChangeHistory(at(5))
  history.add(at(6), touches([a, ['1']]))
  history.add(at(7), touches([b, ['2']]))
  history.add(at(8), touches())
  history.add(at(9), touches([a, ['1', '3']], [b, ['3']]))
  t.strictSame([5, 6, 7, 8, 9].map(number => since(history, number, a)), [['1', '3'], ['1', '3'], ['1', '3'], ['1', '3'], []])
  t.strictSame([5, 6, 7, 8, 9].map(number => since(history, number, b)), [['2', '3'], ['2', '3'], ['3'], ['3'], []])
  t.strictSame(since(history, 5, idOf('/spire/agent/x/c')), [])
  history.add(at(10), touches([b, 'all']))
  t.strictSame([since(history, 9, a), since(history, 5, b), since(history, 10, b)], [[], 'all', []])
})

void t.test('places it does not know', async t => {
  const history = new ChangeHistory(at(5))
  history.add(at(6), touches([a, ['1']]))
  history.add(at(9), touches([a, ['2']]))
  t.equal(since(history, 4, a), undefined, 'from before it began')
  t.equal(since(history, 10, a), undefined, 'where it has not come to')
  t.strictSame([7, 8].map(number => since(history, number, a)), [undefined, undefined], 'in the middle of a step')
  t.equal(history.since(at(6, 'other'), a), undefined, 'another epoch')
})

void t.test('another epoch, or a log that was set back, begins anew', async t => {
  for (const place of [at(3, 'other'), at(3)]) {
    const history = new ChangeHistory(at(5))
    history.add(at(6), touches([a, ['1']]))
    history.add(place, touches([a, ['2']]))
    history.add({ ...place, number: 4 }, touches([a, ['3']]))
    t.equal(history.since(at(5), a), undefined)
    t.strictSame(history.since(place, a), new Set(['3']))
  }
})

void t.test('the same place again is the same state', async t => {
  const history = new ChangeHistory(at(5))
  history.add(at(6), touches([a, ['1']]))
  history.add(at(6), touches([a, ['1', '2']]))
  t.strictSame([since(history, 5, a), since(history, 6, a)], [['1'], []])
})

void t.test('the oldest are forgotten when there are too many', async t => {
  const most = 100
  const history = new ChangeHistory(at(0), most)
  const model = new Map<number, string>()
  for (let number = 1; number <= 1_000; number++) {
    model.set(number, `e${number % 13}`)
    history.add(at(number), touches([number % 2 === 0 ? a : b, [`e${number % 13}`]]))
    const known = Array.from({ length: number + 1 }, (_, n) => n).filter(place => since(history, place, a) !== undefined)
    const oldest = known[0] ?? Number.NaN
    if (known.length !== number + 1 - oldest || (number > most && (number - oldest > most || number - oldest < most / 4))) {
      throw new Error(`at ${number} it knows from ${oldest} on`)
    }
    const expected = [...new Set([...model].filter(([n]) => n > oldest && n % 2 === 0).map(([, id]) => id))].toSorted()
    if (JSON.stringify(since(history, oldest, a)) !== JSON.stringify(expected)) throw new Error(`at ${number} it says otherwise`)
  }
  t.pass('a thousand steps')
})

void t.test('whom changes of some entries touched between two places, and where it must stand to know', async t => {
  const history = new ChangeHistory(at(5))
  history.add(at(6), touches([a, ['1']], [b, ['2']]))
  history.add(at(7), touches([b, ['1', '2']]))
  history.add(at(9), touches([a, 'all']))
  history.add(at(12), touches([a, ['1']]))
  const between = (from: number, until: number, ...ids: string[]) => {
    const found = history.between(at(from), at(until), new Set(ids))
    return found && Object.fromEntries([...found].map(([id, number]) => [id.at(-1), number]))
  }
  t.strictSame(between(5, 7, '1'), { a: 6, b: 7 })
  t.strictSame(between(6, 7, '1'), { b: 7 })
  t.strictSame(between(5, 6, '2'), { b: 6 })
  t.strictSame(between(5, 5, '1'), {})
  t.strictSame(between(7, 9, '7'), { a: 9 }, 'a change of everything may be one of any entry')
  t.strictSame(between(9, 11, '1'), { a: 11 }, 'a step that goes beyond counts; the place asked for is enough')
  t.strictSame(between(9, 12, '1'), { a: 12 })
  t.equal(between(8, 9, '1'), undefined, 'what was in the middle of a step is not known')
  t.equal(between(4, 9, '1'), undefined)
  t.equal(between(9, 13, '1'), undefined, 'not come to yet')
  t.equal(history.between(at(5, 'other'), at(7), new Set()), undefined)
  t.equal(history.between(at(5), at(7, 'other'), new Set()), undefined)
})
