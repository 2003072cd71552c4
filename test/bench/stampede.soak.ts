import t from 'tap'
import { stampede } from '../../bench/stampede/stampede.ts'

const count = 300

await t.test(`${count} agents that return to one server at once are all served`, { timeout: 900_000 }, async t => {
  const { served, warnings, rssBefore, rssMax } = await stampede(count, text => t.comment(text))
  t.equal(served.length, count, 'none is starved: each has renewed itself and has all its SVIDs')
  t.ok(rssMax - rssBefore < 400, `memory stays bounded: ${Math.round(rssBefore)} MiB before, ${Math.round(rssMax)} at the most`)
  t.comment(`the last after ${Math.round(served.at(-1) ?? 0)} ms; tried again: ${JSON.stringify([...warnings])}`)
})
