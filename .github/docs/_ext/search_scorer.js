// Part of the site's search. Sphinx puts this after searchtools.js, whose weights stay as they are.
// The changelog names everything, so that it would come before the page that explains a thing.
Scorer.score = ([page, , , , score]) => page === "project/changelog" ? score - 1000 : score;
