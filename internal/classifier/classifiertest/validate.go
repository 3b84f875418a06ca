package classifiertest

import (
	"fmt"
	"math"
	"math/rand/v2"

	"poczta.example/poczta/internal/classifier"
)

// Accuracy is how messages were judged that had not been learned.
type Accuracy struct {
	Ham, Spam             int // messages
	HamAsSpam, SpamAsSpam int // answered Spam
	HamUnsure, SpamUnsure int
	HamAsHam, SpamAsHam   int
	Surprise              float64  // mean log loss, in bits
	Wrong                 []string // ham called spam and spam called ham
}

// HamKept is the percentage of ham that was not called spam.
func (a Accuracy) HamKept() float64 { return 100 - 100*float64(a.HamAsSpam)/float64(a.Ham) }

// SpamCaught is the percentage of spam that was called spam.
func (a Accuracy) SpamCaught() float64 { return 100 * float64(a.SpamAsSpam) / float64(a.Spam) }

// String is the accuracy in a line.
func (a Accuracy) String() string {
	return fmt.Sprintf("%.2f %% of %d ham kept (%.2f %% unsure), %.2f %% of %d spam caught (%.2f %% unsure, %.2f %% called ham), %.4f bits",
		a.HamKept(), a.Ham, 100*float64(a.HamUnsure)/float64(a.Ham), a.SpamCaught(), a.Spam,
		100*float64(a.SpamUnsure)/float64(a.Spam), 100*float64(a.SpamAsHam)/float64(a.Spam), a.Surprise)
}

// Validate judges each message by a model that learned the others, in folds that a seed
// deals out.
func Validate(all []Label, folds int, seed uint64) Accuracy {
	order := rand.New(rand.NewPCG(seed, 1)).Perm(len(all))
	var a Accuracy
	for fold := range folds {
		m := classifier.NewModel(22)
		for i, j := range order {
			if i%folds != fold {
				m.Add(all[j].Features, all[j].Spam)
			}
		}
		for i, j := range order {
			if i%folds == fold {
				a.note(m, all[j])
			}
		}
	}
	a.Surprise /= float64(len(all))
	return a
}

// Few learns some messages of each class, drawn by a seed, and judges all others.
func Few(all []Label, each int, seed uint64) Accuracy {
	m, n, a := classifier.NewModel(22), map[bool]int{}, Accuracy{}
	var others []Label
	for _, i := range rand.New(rand.NewPCG(seed, 2)).Perm(len(all)) {
		l := all[i]
		if n[l.Spam]++; n[l.Spam] <= each {
			m.Add(l.Features, l.Spam)
		} else {
			others = append(others, l)
		}
	}
	for _, l := range others {
		a.note(m, l)
	}
	a.Surprise /= float64(max(len(others), 1))
	return a
}

func (a *Accuracy) note(m *classifier.Model, l Label) {
	p, _ := m.Judge(nil, l.Features)
	answer := classifier.Judgement{Probability: p, Trained: true}.Answer()
	right := p
	if !l.Spam {
		right = 1 - p
	}
	a.Surprise -= math.Log2(max(right, 1e-9))
	total, asSpam, unsure, asHam := &a.Ham, &a.HamAsSpam, &a.HamUnsure, &a.HamAsHam
	if l.Spam {
		total, asSpam, unsure, asHam = &a.Spam, &a.SpamAsSpam, &a.SpamUnsure, &a.SpamAsHam
	}
	*total++
	switch answer {
	case classifier.Spam:
		*asSpam++
	case classifier.Ham:
		*asHam++
	case classifier.Unsure:
		*unsure++
	}
	if answer == classifier.Spam && !l.Spam || answer == classifier.Ham && l.Spam {
		a.Wrong = append(a.Wrong, fmt.Sprintf("%s %.4f", l.Name, p))
	}
}
