package classifier_test

import (
	"fmt"

	"poczta.example/poczta/internal/classifier"
	"poczta.example/poczta/internal/content"
)

// A Model by itself: what was learned is counted, what was counted answers.
func ExampleModel() {
	m := classifier.NewModel(16)
	for i := range 100 {
		m.Add(classifier.FeaturesOf(&content.Content{Text: fmt.Sprintf("cheap pills from our casino %c", 'a'+i%26)}), true)
		m.Add(classifier.FeaturesOf(&content.Content{Text: fmt.Sprintf("notes of our meeting tomorrow %c", 'a'+i%26)}), false)
	}
	for _, text := range []string{"pills, cheap pills, casino", "our meeting tomorrow, with notes", "something else"} {
		p, _ := m.Judge(nil, classifier.FeaturesOf(&content.Content{Text: text}))
		fmt.Println(text, "-", classifier.Judgement{Probability: p, Trained: true}.Answer())
	}
	// Output:
	// pills, cheap pills, casino - spam
	// our meeting tomorrow, with notes - ham
	// something else - unsure
}
